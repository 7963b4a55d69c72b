package wire

import (
	"math"
	"strconv"
	"time"
)

// Bounds of one answer to a history.
const (
	HistoryLimit    = 100  // messages when the device does not say
	MaxHistoryLimit = 1000 // messages, whatever the device says
)

// SinceKind says how the beginning of a subscription is given.
type SinceKind uint8

// The kinds.
const (
	SinceNow  SinceKind = iota // what is stored from now on
	SinceSeq                   // what has a greater sequence
	SinceTime                  // what was stored at that time or later
	SinceLast                  // the last one stored, then what comes
)

// Since is where a subscription begins. The zero value is now.
type Since struct {
	Kind SinceKind
	Seq  uint64    // of SinceSeq; 0 is before the first message
	Time time.Time // of SinceTime
}

// Subscribe is the payload of a subscribe or an unsubscribe.
type Subscribe struct {
	Topic string // see [ValidTopic]
	Since Since  // an unsubscribe has none
	// Epoch is that of the sequence in Since, as an earlier answer told it; ""
	// when the device does not say. See [Subscribed].
	Epoch string
}

// The fields of what a device says about topics.
const (
	cTopic = iota
	cSince
	cData
	cInbox
	cFrom
	cLimit
	cEpoch
	topicFields
)

var topicNames = [topicFields]string{
	"payload.topic", "payload.since", "payload.data", "payload.inbox", "payload.from", "payload.limit", "payload.epoch",
}

func topicField(key []byte) int { return payloadField(topicNames[:], key) }

// DecodeSubscribe reads the payload of a subscribe or an unsubscribe from a
// device. The error is an [*Error] with BAD_MESSAGE that names the field.
func DecodeSubscribe(payload []byte) (Subscribe, error) {
	d := decoder{b: payload, names: topicNames[:]}
	if !d.payload("subscribe or unsubscribe", `{"topic":"t.a"}`, topicField) {
		return Subscribe{}, d.bad
	}
	s := Subscribe{Topic: d.needTopic(cTopic), Since: d.since(), Epoch: d.key(cEpoch)}
	if d.bad != nil {
		return Subscribe{}, d.bad
	}
	return s, nil
}

// since reads where a subscription begins.
func (d *decoder) since() Since {
	const want = `the seq of a message, an RFC 3339 time or "last"`
	switch v := d.f[cSince]; v.kind {
	case absent, isNull:
		return Since{}
	case isNumber:
		return Since{Kind: SinceSeq, Seq: uint64(d.integer(cSince, 0, math.MaxInt64, want))} //nolint:gosec // integer bounds it
	case isString:
		if d.str(cSince) == "last" {
			return Since{Kind: SinceLast}
		}
		t := d.when(cSince, want)
		switch {
		case t.Before(firstTime):
			t = firstTime
		case t.After(lastTime):
			t = lastTime
		}
		return Since{Kind: SinceTime, Time: t}
	default:
		d.fail(cSince, want)
		return Since{}
	}
}

// AppendPayload appends the payload alone.
func (s *Subscribe) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"topic":`...), s.Topic)
	switch s.Since.Kind {
	case SinceNow:
	case SinceSeq:
		dst = appendUint(dst, `,"since":`, s.Since.Seq)
	case SinceTime:
		dst = s.Since.Time.UTC().AppendFormat(append(dst, `,"since":"`...), time.RFC3339Nano)
		dst = append(dst, '"')
	case SinceLast:
		dst = append(dst, `,"since":"last"`...)
	}
	return append(appendField(dst, `,"epoch":`, s.Epoch), '}')
}

// Subscribed is the payload of the ack that answers a subscribe or an
// unsubscribe.
type Subscribed struct {
	OriginalID string
	Topic      string
	Seq        uint64 // of the topic's last stored message; 0 when there is none
	// Epoch stays the same as long as no sequence is given out twice; "" where
	// that is not told.
	Epoch string
	// Reset says that the subscription does not go on from the sequence that
	// was asked for, but from the first message stored: a gap follows.
	Reset bool
	// Since is what to go on from while nothing has come, told where Seq is 0; 0
	// where it is not told.
	Since uint64
}

// Append appends the whole envelope, type ack, from the server.
func (s *Subscribed) Append(dst []byte) []byte { return appendAck(dst, s.AppendPayload) }

// AppendPayload appends the payload alone.
func (s *Subscribed) AppendPayload(dst []byte) []byte {
	dst = appendSuccess(dst, s.OriginalID, StatusSuccess)
	dst = AppendString(append(dst, `,"topic":`...), s.Topic)
	dst = appendField(appendUint(dst, `,"seq":`, s.Seq), `,"epoch":`, s.Epoch)
	if s.Since > 0 {
		dst = appendUint(dst, `,"since":`, s.Since)
	}
	return append(appendFlag(dst, `,"reset":true`, s.Reset), '}')
}

// Publish is the payload of a publish.
type Publish struct {
	Topic string // see [ValidTopic]
	// Data is one JSON value, as it was sent. After decoding it aliases the
	// payload.
	Data []byte
}

// DecodePublish reads the payload of a publish from a device. The error is an
// [*Error] with BAD_MESSAGE that names the field.
func DecodePublish(payload []byte) (Publish, error) {
	d := decoder{b: payload, names: topicNames[:]}
	if !d.payload(TypePublish, `{"topic":"t.a","data":1}`, topicField) {
		return Publish{}, d.bad
	}
	p := Publish{Topic: d.needTopic(cTopic), Data: d.value(cData)}
	if p.Data == nil {
		d.missing(cData, "any JSON value, null among them")
	}
	if d.bad != nil {
		return Publish{}, d.bad
	}
	return p, nil
}

// AppendPayload appends the payload alone.
func (p *Publish) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"topic":`...), p.Topic)
	return append(appendRaw(dst, `,"data":`, p.Data), '}')
}

// Published is the payload of the ack that answers a publish.
type Published struct {
	OriginalID string
	Topic      string
	Seq        uint64 // of the stored message, the earlier one for a duplicate
	Duplicate  bool
}

// Append appends the whole envelope, type ack, from the server.
func (p *Published) Append(dst []byte) []byte { return appendAck(dst, p.AppendPayload) }

// AppendPayload appends the payload alone.
func (p *Published) AppendPayload(dst []byte) []byte {
	dst = appendSuccess(dst, p.OriginalID, StatusAccepted)
	dst = AppendString(append(dst, `,"topic":`...), p.Topic)
	dst = appendUint(dst, `,"seq":`, p.Seq)
	return append(strconv.AppendBool(append(dst, `,"duplicate":`...), p.Duplicate), '}')
}

// History is the payload of a history: of a topic, or of the device's own
// inbox.
type History struct {
	Topic string // "" when Inbox is set
	Inbox bool
	From  uint64 // the least seq; 0 is from the first message on
	// Limit is how many messages at most; after decoding it is from 1 to
	// MaxHistoryLimit. 0 leaves it to the edge when encoding.
	Limit int
}

// DecodeHistory reads the payload of a history from a device. A limit above
// [MaxHistoryLimit] counts as that one. The error is an [*Error] with
// BAD_MESSAGE that names the field.
func DecodeHistory(payload []byte) (History, error) {
	d := decoder{b: payload, names: topicNames[:]}
	if !d.payload(TypeHistory, `{"topic":"t.a"} or {"inbox":true}`, topicField) {
		return History{}, d.bad
	}
	h := History{Inbox: d.flag(cInbox), From: d.seq(cFrom)}
	switch {
	case !h.Inbox:
		h.Topic = d.needTopic(cTopic)
	case d.f[cTopic].given():
		d.fail(cTopic, "absent when payload.inbox is true")
	}
	if h.Limit = int(d.atMost(cLimit, MaxHistoryLimit, "a positive integer")); h.Limit == 0 {
		h.Limit = HistoryLimit
	}
	if d.bad != nil {
		return History{}, d.bad
	}
	return h, nil
}

// AppendPayload appends the payload alone.
func (h *History) AppendPayload(dst []byte) []byte {
	from := len(dst)
	dst = appendField(dst, `,"topic":`, h.Topic)
	dst = appendFlag(dst, `,"inbox":true`, h.Inbox)
	if h.From != 0 {
		dst = appendUint(dst, `,"from":`, h.From)
	}
	if h.Limit != 0 {
		dst = strconv.AppendInt(append(dst, `,"limit":`...), int64(h.Limit), 10)
	}
	return closeObject(dst, from)
}

// HistoryPage is the payload of the ack that answers a history.
type HistoryPage struct {
	OriginalID string
	// Messages is a JSON array of envelopes in the order of seq, which is a
	// frame: [DecodeFrame] reads it. nil is an empty one. After decoding it
	// aliases the payload.
	Messages []byte
	Next     uint64 // the From to go on with; 0 when there is no more
}

// Append appends the whole envelope, type ack, from the server.
func (p *HistoryPage) Append(dst []byte) []byte { return appendAck(dst, p.AppendPayload) }

// AppendPayload appends the payload alone.
func (p *HistoryPage) AppendPayload(dst []byte) []byte {
	dst = append(appendSuccess(dst, p.OriginalID, StatusSuccess), `,"messages":`...)
	if p.Messages == nil {
		dst = append(dst, "[]"...)
	}
	dst = append(dst, p.Messages...)
	if p.Next != 0 {
		dst = appendUint(dst, `,"next":`, p.Next)
	}
	return append(dst, '}')
}

// DecodeHistoryPage reads the payload of the ack that answers a history. The
// error is an [*Error] with BAD_MESSAGE.
func DecodeHistoryPage(payload []byte) (HistoryPage, error) {
	const (
		hOriginal = iota
		hMessages
		hNext
	)
	names := [...]string{"payload.originalMessageId", "payload.messages", "payload.next"}
	d := decoder{b: payload, names: names[:]}
	index := func(key []byte) int { return payloadField(names[:], key) }
	if !d.payload("the answer to history", `{"messages":[]}`, index) {
		return HistoryPage{}, d.bad
	}
	p := HistoryPage{OriginalID: d.str(hOriginal), Messages: d.array(hMessages), Next: d.seq(hNext)}
	if d.bad != nil {
		return HistoryPage{}, d.bad
	}
	return p, nil
}

// Gap tells a device that messages are gone which it had not acknowledged, or,
// of a topic, had not been sent.
type Gap struct {
	Lane  string // of the inbox; "" for a topic
	Topic string // "" for the inbox
	// From and To are the sequences between which they were, both included.
	// Not every sequence between is one of them: an inbox shares its sequences
	// with others.
	From, To uint64
	Count    uint64 // how many are gone; 0 when that cannot be known
	AtLeast  uint64 // how many are gone at the least, where Count is 0
	Reason   string // one of the Reasons; "" of an edge of an earlier version
}

// AppendPayload appends the payload alone.
func (g *Gap) AppendPayload(dst []byte) []byte {
	from := len(dst)
	dst = appendField(dst, `,"lane":`, g.Lane)
	dst = appendField(dst, `,"topic":`, g.Topic)
	dst = appendUint(dst, `,"from":`, g.From)
	dst = appendUint(dst, `,"to":`, g.To)
	dst = appendUint(dst, `,"count":`, g.Count)
	if g.Count == 0 {
		dst = appendUint(dst, `,"atLeast":`, g.AtLeast)
	}
	return closeObject(appendField(dst, `,"reason":`, g.Reason), from)
}

// Append appends the whole envelope, type gap, from the server.
func (g *Gap) Append(dst []byte) []byte {
	dst = append(appendHead(dst, TypeGap, "", ""), `,"payload":`...)
	return append(g.AppendPayload(dst), '}')
}

// DecodeGap reads the payload of a gap from an edge. The error is an [*Error]
// with BAD_MESSAGE.
func DecodeGap(payload []byte) (Gap, error) {
	const (
		gLane = iota
		gTopic
		gFrom
		gTo
		gCount
		gAtLeast
		gReason
	)
	names := [...]string{
		"payload.lane", "payload.topic", "payload.from", "payload.to", "payload.count", "payload.atLeast", "payload.reason",
	}
	d := decoder{b: payload, names: names[:]}
	index := func(key []byte) int { return payloadField(names[:], key) }
	if !d.payload(TypeGap, `{"lane":"normal","from":1,"to":9,"count":3}`, index) {
		return Gap{}, d.bad
	}
	g := Gap{
		Lane: d.str(gLane), Topic: d.str(gTopic), From: d.seq(gFrom), To: d.seq(gTo),
		Count: d.seq(gCount), AtLeast: d.seq(gAtLeast), Reason: d.str(gReason),
	}
	if g.Count != 0 {
		g.AtLeast = 0 // it is known
	}
	if d.bad != nil {
		return Gap{}, d.bad
	}
	return g, nil
}
