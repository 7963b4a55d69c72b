package wire

import (
	"math"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// The fields of an envelope, by their place in the table of spans.
const (
	fID = iota
	fType
	fFrom
	fUser
	fToDevice
	fTo
	fPayload
	fTimestamp
	fPriority
	fRequiresAck
	fCorrelation
	fTTL
	fDeliverAt
	fCollapse
	fEphemeral
	fTrace
	fSeq
	fRedelivered
	fReplay
	fPartial
	fEncoding
	fTopic
	fOriginalType
	fTooLarge
	fields
)

// envelopeFields are the keys, in the order of the constants.
var envelopeFields = [fields]string{
	"id", "type", "fromDeviceId", "userId", "toDeviceId", "to", "payload", "timestamp", "priority",
	"requiresAck", "correlationId", "ttlMs", "deliverAt", "collapseKey", "ephemeral", "traceparent",
	"seq", "redelivered", "replay", "partial", "encoding", "topic",
	"originalType", "tooLarge",
}

// fieldsOfLength are the fields whose keys have so many bytes.
var fieldsOfLength = func() (of [16][]uint8) {
	for n, key := range envelopeFields {
		of[len(key)] = append(of[len(key)], uint8(n))
	}
	return of
}()

// field is the place of a key, -1 for a key that is not ours.
func field(key []byte) int {
	if len(key) < len(fieldsOfLength) {
		for _, n := range fieldsOfLength[len(key)] {
			if envelopeFields[n] == string(key) {
				return int(n)
			}
		}
	}
	return -1
}

// inPost are the fields that a backend may give.
const inPost = 1<<fTo | 1<<fType | 1<<fPayload | 1<<fID | 1<<fPriority | 1<<fTTL | 1<<fDeliverAt | 1<<fCollapse | 1<<fCorrelation | 1<<fEphemeral

// postField is field for a post.
func postField(key []byte) int {
	if n := field(key); n >= 0 && inPost&(1<<n) != 0 {
		return n
	}
	return -1
}

// envelope reads all fields and checks the rules of the protocol's table.
func (d *decoder) envelope(e *Envelope) {
	d.reserve(fPayload, fDeliverAt)
	e.ID = d.id()
	e.Type = d.typ()
	e.FromDeviceID, e.UserID = subjects.DeviceID(d.str(fFrom)), subjects.UserID(d.str(fUser))
	e.ToDeviceID = subjects.DeviceID(d.name(fToDevice))
	e.To = d.to(e.ToDeviceID)
	e.Timestamp = d.timestamp(fTimestamp)
	e.Priority = Normal
	if d.f[fPriority].given() {
		e.Priority = uint8(d.integer(fPriority, int64(Low), int64(Critical), "an integer from 0 to 3")) //nolint:gosec // integer bounds it
	}
	e.RequiresAck = d.flag(fRequiresAck)
	e.CorrelationID = d.key(fCorrelation)
	e.TTLMs = d.integer(fTTL, 1, math.MaxInt64, "a positive integer of milliseconds")
	e.DeliverAt = d.when(fDeliverAt, wantTime)
	e.CollapseKey = d.key(fCollapse)
	e.Ephemeral = d.flag(fEphemeral)
	e.Traceparent = d.key(fTrace)
	e.Seq = uint64(d.integer(fSeq, 1, math.MaxInt64, "a positive integer")) //nolint:gosec // integer bounds it
	e.Redelivered, e.Replay, e.Partial = d.flag(fRedelivered), d.flag(fReplay), d.flag(fPartial)
	e.Encoding, e.Topic, e.OriginalType = d.str(fEncoding), d.str(fTopic), d.str(fOriginalType)
	e.TooLarge = d.flag(fTooLarge)
	switch {
	case d.f[fPayload].kind != absent:
		e.Payload = d.raw(fPayload)
	case IsControl(e.Type):
	case e.TooLarge: // so that a message never is without one, whoever says so
		e.Payload = []byte("null")
	default:
		d.missing(fPayload, "any JSON value, null among them")
	}
}

// post is envelope for what a backend sends.
func (d *decoder) post(p *Post) {
	d.reserve(fPayload, fDeliverAt)
	e := &p.Envelope
	e.RequiresAck = true // its outcome comes as an event
	e.ID = d.str(fID)
	if d.f[fID].given() && !validKey(e.ID) {
		d.fail(fID, wantID)
		e.ID = ""
	}
	const wantType = `an application's type such as "user_message": [a-z][a-z0-9_.-]{0,63}`
	if e.Type = d.need(fType, wantType); d.bad == nil && (!ValidType(e.Type) || IsControl(e.Type)) {
		d.fail(fType, wantType)
	}
	e.To, p.User = d.postTo()
	e.Priority = d.lane()
	e.TTLMs = d.integer(fTTL, 1, math.MaxInt64, "a positive integer of milliseconds")
	e.DeliverAt = d.when(fDeliverAt, wantTime)
	e.CollapseKey, e.CorrelationID = d.key(fCollapse), d.key(fCorrelation)
	e.Ephemeral = d.flag(fEphemeral)
	if d.f[fPayload].kind == absent {
		d.missing(fPayload, "any JSON value, null among them")
		return
	}
	e.Payload = d.raw(fPayload)
}

// Append appends the envelope as compact JSON. The payload goes in byte for
// byte and must be one JSON value, see [Embeddable]; strings are escaped, and
// repaired where they are not UTF-8. Absent fields are left out. Priority is
// written for application messages, and for outcomes, which have a lane too: it
// says nothing of another control message.
func (e *Envelope) Append(dst []byte) []byte {
	dst = append(dst, `{"type":`...)
	dst = AppendString(dst, e.Type)
	dst = appendField(dst, `,"id":`, e.ID)
	dst = appendField(dst, `,"fromDeviceId":`, string(e.FromDeviceID))
	dst = appendField(dst, `,"userId":`, string(e.UserID))
	dst = appendField(dst, `,"toDeviceId":`, string(e.ToDeviceID))
	if e.To != nil {
		dst = e.To.append(append(dst, `,"to":`...))
	}
	if e.Seq != 0 {
		dst = strconv.AppendUint(append(dst, `,"seq":`...), e.Seq, 10)
	}
	if !IsControl(e.Type) || e.Type == TypeAck && e.Seq != 0 {
		dst = strconv.AppendUint(append(dst, `,"priority":`...), uint64(e.Priority), 10)
	}
	dst = appendField(dst, `,"timestamp":`, e.Timestamp)
	dst = e.appendOptions(dst)
	if e.Payload != nil {
		dst = append(append(dst, `,"payload":`...), e.Payload...)
	}
	return append(dst, '}')
}

// appendOptions appends what most messages do not have.
func (e *Envelope) appendOptions(dst []byte) []byte {
	dst = appendFlag(dst, `,"requiresAck":true`, e.RequiresAck)
	dst = appendField(dst, `,"correlationId":`, e.CorrelationID)
	if e.TTLMs != 0 {
		dst = strconv.AppendInt(append(dst, `,"ttlMs":`...), e.TTLMs, 10)
	}
	if !e.DeliverAt.IsZero() {
		dst = e.DeliverAt.UTC().AppendFormat(append(dst, `,"deliverAt":"`...), time.RFC3339Nano)
		dst = append(dst, '"')
	}
	dst = appendField(dst, `,"collapseKey":`, e.CollapseKey)
	dst = appendFlag(dst, `,"ephemeral":true`, e.Ephemeral)
	dst = appendField(dst, `,"traceparent":`, e.Traceparent)
	dst = appendFlag(dst, `,"redelivered":true`, e.Redelivered)
	dst = appendFlag(dst, `,"replay":true`, e.Replay)
	dst = appendFlag(dst, `,"partial":true`, e.Partial)
	dst = appendFlag(dst, `,"tooLarge":true`, e.TooLarge)
	dst = appendField(dst, `,"topic":`, e.Topic)
	dst = appendField(dst, `,"originalType":`, e.OriginalType)
	return appendField(dst, `,"encoding":`, e.Encoding)
}

// id is read first, so that an error about any other field can name the
// message; an id that is itself wrong names nothing.
func (d *decoder) id() string {
	s := d.str(fID)
	if d.f[fID].given() && !validKey(s) {
		d.fail(fID, wantID)
		return ""
	}
	return s
}

// typ is the type, and says that the id is missing where the type needs one.
func (d *decoder) typ() string {
	const want = "a string such as \"user_message\": [a-z][a-z0-9_.-]{0,63}"
	v := d.f[fType]
	if !v.given() {
		d.missing(fType, want)
		return ""
	}
	var s string
	if v.kind == isString && !v.escaped {
		s = intern(d.b[v.at+1 : v.end-1])
	}
	if s == "" {
		s = d.str(fType)
	}
	if !ValidType(s) {
		d.fail(fType, want)
		return ""
	}
	if !d.f[fID].given() && !IsControl(s) {
		d.missing(fID, wantID)
	}
	return s
}

// The fields of "to".
const (
	tDevice = iota
	tDeviceType
	tCapability
	tService
	tMode
	tUser // only in a post
	toFields
)

var toNames = [toFields]string{"to.device", "to.deviceType", "to.capability", "to.service", "to.mode", "to.user"}

func toField(key []byte) int { return member(toNames[:], "to.", key) }

// to reads the selector; toDevice is the envelope's other way to say it.
func (d *decoder) to(toDevice subjects.DeviceID) *To {
	v := d.f[fTo]
	if !v.given() {
		return nil
	}
	if v.kind != isObject {
		d.fail(fTo, "an object such as {\"device\":\"phone\"}")
		return nil
	}
	in := decoder{b: d.b, names: toNames[:]}
	s := scanner{b: d.b, i: v.at}
	selectors := 0
	index := func(key []byte) int {
		n := toField(key)
		if n != tMode {
			selectors++
		}
		return n
	}
	s.members(insideEnvelope+1, in.f[:], index) // scanned before: it cannot fail
	in.reserve(tUser)
	to := &To{
		Device: subjects.DeviceID(in.name(tDevice)), DeviceType: in.name(tDeviceType), Capability: in.name(tCapability),
		Service: in.flag(tService), Mode: in.mode(),
	}
	known := in.f[tDevice].given() || in.f[tDeviceType].given() || in.f[tCapability].given() || in.f[tService].given()
	switch {
	case in.bad != nil:
	case selectors > 0 && !known: // taken for nobody, it would go to everybody
		in.bad = NewError(BadMessage, "to must hold device, deviceType, capability or service, or nothing but mode")
	default:
		in.bad = to.check(toDevice)
	}
	if d.bad == nil {
		d.bad = in.bad
	}
	return to
}

func (d *decoder) mode() string {
	v := d.f[tMode]
	if v.given() {
		switch string(d.raw(tMode)) {
		case `"all"`:
			return ModeAll
		case `"any"`:
			return ModeAny
		}
		if s := d.str(tMode); s == ModeAll || s == ModeAny { // written with escapes
			return s
		}
		d.fail(tMode, `"all" or "any"`)
	}
	return ""
}

// check refuses a selector that says two things, or something else than
// toDeviceId does.
func (to *To) check(toDevice subjects.DeviceID) *Error {
	selectors := 0
	for _, set := range [...]bool{to.Device != "", to.DeviceType != "", to.Capability != "", to.Service} {
		if set {
			selectors++
		}
	}
	switch {
	case selectors > 1:
		return NewError(BadMessage, "to must hold one of device, deviceType, capability and service")
	case toDevice != "" && toDevice != to.Device:
		return NewError(BadMessage, "toDeviceId and to disagree: give one of them")
	}
	return nil
}

func (to *To) append(dst []byte) []byte {
	from := len(dst)
	dst = appendField(dst, `,"device":`, string(to.Device))
	dst = appendField(dst, `,"deviceType":`, to.DeviceType)
	dst = appendField(dst, `,"capability":`, to.Capability)
	dst = appendFlag(dst, `,"service":true`, to.Service)
	dst = appendField(dst, `,"mode":`, to.Mode)
	return closeObject(dst, from)
}
