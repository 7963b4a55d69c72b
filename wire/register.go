package wire

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rccs-io/rccs/subjects"
)

// Bounds of a registration.
const (
	// MaxDescription is the longest platform or version, in bytes.
	MaxDescription = 512
	// MaxCapabilities is the longest capabilities object, in bytes of JSON: it
	// is stored, and held in memory for every device of a user.
	MaxCapabilities = 16 << 10
	// MinFrame is the least maxFrameBytes, in bytes.
	MinFrame = 1024
	// MaxOfflineDelay is the largest offlineDelayMs.
	MaxOfflineDelay = 5 * time.Minute
)

// Acknowledgement modes.
const (
	AckExplicit = "explicit" // the device acknowledges
	AckAuto     = "auto"     // written to the socket counts as delivered
)

// Register is the payload of a device's device_register. All fields are
// optional to the codec; whether a credential is there is the edge's to judge.
type Register struct {
	DeviceID                subjects.DeviceID
	UserID                  subjects.UserID
	Type, Platform, Version string
	// Capabilities is the object as sent, nil when absent. After decoding it
	// aliases the payload.
	Capabilities []byte
	// Held are the names of the capabilities that are held, sorted: those
	// whose value is true, a number other than 0, or something not empty. It
	// is set by decoding only.
	Held      []string
	AuthToken string
	Sig       string        // base64url of the signed nonce
	AckMode   string        // "", AckExplicit or AckAuto
	Window    int           // 0: the edge's default
	Heartbeat time.Duration // 0: the edge's default; whole milliseconds
	Batch     bool
	// MaxFrame is the largest frame that the device takes, in bytes; 0 leaves
	// it to the edge. After decoding it is at least [MinFrame].
	MaxFrame int64
	// OfflineDelay is how long after a lost connection the edge waits before it
	// tells others that the device is offline; at most [MaxOfflineDelay], whole
	// milliseconds.
	OfflineDelay time.Duration
}

// The fields of a registration.
const (
	rID = iota
	rUser
	rType
	rPlatform
	rVersion
	rCapabilities
	rToken
	rSig
	rAckMode
	rWindow
	rBatch
	rHeartbeat
	rMaxFrame
	rOfflineDelay
	registerFields
)

var registerNames = [registerFields]string{
	"payload.id", "payload.userId", "payload.type", "payload.platform", "payload.version",
	"payload.capabilities", "payload.authToken", "payload.sig", "payload.ackMode", "payload.window",
	"payload.batch", "payload.heartbeatMs", "payload.maxFrameBytes", "payload.offlineDelayMs",
}

func registerField(key []byte) int { return payloadField(registerNames[:], key) }

// DecodeRegister reads the payload of a device_register from a device. The
// error is an [*Error] with BAD_MESSAGE that names the field. An absent payload is
// an empty one: the credential may have come with the upgrade.
func DecodeRegister(payload []byte) (*Register, error) {
	d := decoder{b: payload, names: registerNames[:]}
	if len(payload) > 0 && !d.object(registerField) {
		return nil, NewError(BadMessage, "payload of device_register must be an object")
	}
	d.reserve(rCapabilities)
	r := &Register{
		DeviceID: subjects.DeviceID(d.name(rID)), UserID: subjects.UserID(d.name(rUser)), Type: d.name(rType),
		Platform: d.description(rPlatform), Version: d.description(rVersion),
		AuthToken: d.str(rToken), Sig: d.str(rSig), AckMode: d.str(rAckMode),
		Window: int(d.bounded(rWindow, 1, math.MaxInt32, "an integer")), Batch: d.flag(rBatch),
		MaxFrame:     d.bounded(rMaxFrame, MinFrame, math.MaxInt64, "an integer of bytes"),
		Heartbeat:    d.duration(rHeartbeat, time.Millisecond, math.MaxInt64),
		OfflineDelay: d.duration(rOfflineDelay, 0, MaxOfflineDelay),
	}
	if r.AckMode != "" && r.AckMode != AckExplicit && r.AckMode != AckAuto {
		d.fail(rAckMode, `"explicit" or "auto"`)
	}
	d.capabilities(r)
	if d.bad != nil {
		return nil, d.bad
	}
	return r, nil
}

// duration is an integer of milliseconds of which one out of bounds is the
// nearest bound; 0 when absent.
func (d *decoder) duration(n int, low, high time.Duration) time.Duration {
	ms := d.bounded(n, low.Milliseconds(), high.Milliseconds(), "an integer of milliseconds")
	return time.Duration(ms) * time.Millisecond
}

// description is a string for people.
func (d *decoder) description(n int) string {
	s := d.prose(n)
	if len(s) > MaxDescription {
		d.fail(n, "a string of at most "+strconv.Itoa(MaxDescription)+" bytes")
	}
	return s
}

func (d *decoder) capabilities(r *Register) {
	v := d.f[rCapabilities]
	switch {
	case !v.given():
		return
	case v.kind != isObject:
		d.fail(rCapabilities, `an object such as {"supportsFileSync":true}`)
		return
	case v.end-v.at > MaxCapabilities:
		d.fail(rCapabilities, "at most "+strconv.Itoa(MaxCapabilities)+" bytes")
		return
	}
	r.Capabilities = d.raw(rCapabilities)
	r.Held = HeldCapabilities(r.Capabilities)
}

// HeldCapabilities are the names, sorted, of what is held in a capabilities
// object: see [Register]. What is no JSON object holds nothing.
func HeldCapabilities(object []byte) []string {
	var all map[string]any
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	var held []string
	for name, value := range all {
		if isHeld(value) {
			held = append(held, name)
		}
	}
	slices.Sort(held)
	return held
}

func isHeld(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// AppendPayload appends the payload alone.
func (r *Register) AppendPayload(dst []byte) []byte {
	from := len(dst)
	for _, member := range [...]struct{ key, value string }{
		{`,"id":`, string(r.DeviceID)},
		{`,"userId":`, string(r.UserID)},
		{`,"type":`, r.Type},
		{`,"platform":`, r.Platform},
		{`,"version":`, r.Version},
		{`,"authToken":`, r.AuthToken},
		{`,"sig":`, r.Sig},
		{`,"ackMode":`, r.AckMode},
	} {
		dst = appendField(dst, member.key, member.value)
	}
	if r.Capabilities != nil {
		dst = append(append(dst, `,"capabilities":`...), r.Capabilities...)
	}
	if r.Window != 0 {
		dst = strconv.AppendInt(append(dst, `,"window":`...), int64(r.Window), 10)
	}
	if ms := r.Heartbeat.Milliseconds(); ms != 0 {
		dst = strconv.AppendInt(append(dst, `,"heartbeatMs":`...), ms, 10)
	}
	if r.MaxFrame != 0 {
		dst = strconv.AppendInt(append(dst, `,"maxFrameBytes":`...), r.MaxFrame, 10)
	}
	if ms := r.OfflineDelay.Milliseconds(); ms != 0 {
		dst = strconv.AppendInt(append(dst, `,"offlineDelayMs":`...), ms, 10)
	}
	return closeObject(appendFlag(dst, `,"batch":true`, r.Batch), from)
}

// Challenge is the payload of the edge's device_register.
type Challenge struct {
	Challenge  string `json:"challenge"`
	Nonce      string `json:"nonce"`      // what the device signs, as these bytes
	ServerTime string `json:"serverTime"` // RFC 3339
}

// Append appends the whole envelope, type device_register, from the server.
func (c *Challenge) Append(dst []byte, id string) []byte {
	dst = appendHead(dst, TypeRegister, id, c.ServerTime)
	dst = AppendString(append(dst, `,"payload":{"challenge":`...), c.Challenge)
	dst = AppendString(append(dst, `,"nonce":`...), c.Nonce)
	dst = AppendString(append(dst, `,"serverTime":`...), c.ServerTime)
	return append(dst, "}}"...)
}

// Registered is the payload of the ack that ends a registration.
type Registered struct {
	Status              Status             `json:"status"` // always success
	SessionID           subjects.SessionID `json:"sessionId"`
	DeviceID            subjects.DeviceID  `json:"deviceId"`
	UserID              subjects.UserID    `json:"userId"`
	ServerTime          string             `json:"serverTime"` // RFC 3339
	Resumed             bool               `json:"resumed"`
	ExpiresAt           string             `json:"expiresAt,omitempty"` // RFC 3339; "" never
	Pending             int64              `json:"pending"`             // messages waiting
	HeartbeatIntervalMs int64              `json:"heartbeatIntervalMs"`
	MaxMessageBytes     int64              `json:"maxMessageBytes"`         // what the device may send
	MaxFrameBytes       int64              `json:"maxFrameBytes,omitempty"` // what the edge will send; 0: an edge of an earlier version
	Epoch               string             `json:"epoch,omitempty"`         // see Subscribed; of the inbox
	Window              int                `json:"window"`
	OriginalMessageID   string             `json:"originalMessageId,omitempty"`
}

// Append appends the whole envelope, type ack, from the server.
func (r *Registered) Append(dst []byte) []byte {
	dst = appendHead(dst, TypeAck, "", r.ServerTime)
	dst = append(dst, `,"payload":{"status":"success"`...)
	for _, member := range [...]struct{ key, value string }{
		{`,"sessionId":`, string(r.SessionID)},
		{`,"deviceId":`, string(r.DeviceID)},
		{`,"userId":`, string(r.UserID)},
		{`,"serverTime":`, r.ServerTime},
	} {
		dst = AppendString(append(dst, member.key...), member.value)
	}
	dst = strconv.AppendBool(append(dst, `,"resumed":`...), r.Resumed)
	dst = appendField(dst, `,"expiresAt":`, r.ExpiresAt)
	for _, member := range [...]struct {
		key   string
		value int64
	}{
		{`,"pending":`, r.Pending},
		{`,"heartbeatIntervalMs":`, r.HeartbeatIntervalMs},
		{`,"maxMessageBytes":`, r.MaxMessageBytes},
		{`,"window":`, int64(r.Window)},
	} {
		dst = strconv.AppendInt(append(dst, member.key...), member.value, 10)
	}
	if r.MaxFrameBytes != 0 {
		dst = strconv.AppendInt(append(dst, `,"maxFrameBytes":`...), r.MaxFrameBytes, 10)
	}
	dst = appendField(dst, `,"epoch":`, r.Epoch)
	dst = appendField(dst, `,"originalMessageId":`, r.OriginalMessageID)
	return append(dst, "}}"...)
}

// DecodeChallenge reads the payload of the edge's device_register. The error
// is an [*Error] with BAD_MESSAGE.
func DecodeChallenge(payload []byte) (Challenge, error) {
	var c Challenge
	if err := decodeStruct(payload, "the challenge", &c); err != nil {
		return Challenge{}, err
	}
	return c, nil
}

// Answer is the payload of an ack to a device, of whatever kind: Status says
// which fields count. The answers to device_list and history hold more: once
// OriginalMessageID says that it is one, [DecodeDeviceList] and
// [DecodeHistoryPage] read it.
type Answer struct {
	Registered // with status success; Status and OriginalMessageID always

	Recipients  []Recipient `json:"recipients"`  // accepted
	Duplicate   bool        `json:"duplicate"`   // accepted
	DeliveredAt string      `json:"deliveredAt"` // delivered
	Reason      string      `json:"reason"`      // see Outcome
	Reset       bool        `json:"reset"`       // see Subscribed
	Topic       string      `json:"topic"`       // of a subscribe, unsubscribe or publish
	Seq         uint64      `json:"seq"`         // see Subscribed and Published
	Since       uint64      `json:"since"`       // see Subscribed
	Cancelled   uint64      `json:"cancelled"`   // see AppendCancelledPayload
	Cancel      string      `json:"cancel"`      // no answer: this request to the device is given up
}

// DecodeAnswer reads the payload of an ack to a device. The error is an
// [*Error] with BAD_MESSAGE.
func DecodeAnswer(payload []byte) (*Answer, error) {
	a := new(Answer)
	if utf8.Valid(payload) && a.scanAccepted(payload) {
		return a, nil
	}
	*a = Answer{}
	if err := decodeStruct(payload, "an ack", a); err != nil {
		return nil, err
	}
	return a, nil
}

// Accepted is the answer's part about a message that was accepted.
func (a *Answer) Accepted() Accepted {
	return Accepted{OriginalID: a.OriginalMessageID, Recipients: a.Recipients, Duplicate: a.Duplicate}
}

// Outcome is the answer's part about what became of a message.
func (a *Answer) Outcome() Outcome {
	return Outcome{OriginalID: a.OriginalMessageID, Status: a.Status, DeviceID: a.DeviceID, DeliveredAt: a.DeliveredAt, Reason: a.Reason}
}

// DecodeError reads the payload of an error message. err is an [*Error] with
// BAD_MESSAGE when it is not one.
func DecodeError(payload []byte) (told *Error, err error) {
	var p struct {
		Code         Code     `json:"code"`
		Message      string   `json:"message"`
		OriginalID   string   `json:"originalMessageId"`
		RetryAfterMs int64    `json:"retryAfterMs"`
		URLs         []string `json:"urls"`
	}
	if err := decodeStruct(payload, "an error", &p); err != nil {
		return nil, err
	}
	if p.Code == "" {
		return nil, NewError(BadMessage, "payload of an error must hold a code")
	}
	wait := min(max(p.RetryAfterMs, 0), math.MaxInt64/int64(time.Millisecond))
	return &Error{
		Code: p.Code, Message: p.Message, OriginalID: p.OriginalID,
		RetryAfter: time.Duration(wait) * time.Millisecond, URLs: p.URLs,
	}, nil
}

// decodeStruct reads a payload that a peer we trust more than a device sent.
func decodeStruct(payload []byte, what string, into any) error {
	if err := json.Unmarshal(payload, into); err != nil {
		return Errorf(BadMessage, "payload of %s: %s", what, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
