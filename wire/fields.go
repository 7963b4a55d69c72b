package wire

import (
	"math"

	"github.com/rccs-io/rccs/subjects"
)

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
	toFields
)

var toNames = [toFields]string{"to.device", "to.deviceType", "to.capability", "to.service", "to.mode"}

func toField(key []byte) int {
	switch string(key) {
	case "device":
		return tDevice
	case "deviceType":
		return tDeviceType
	case "capability":
		return tCapability
	case "service":
		return tService
	case "mode":
		return tMode
	}
	return -1
}

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
	in.reserve()
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
