package wire

import (
	"math"
	"slices"
	"strconv"

	"github.com/rccs-io/rccs/subjects"
)

// Ack is what a device acknowledges, in the payload of an ack.
type Ack struct {
	// Seqs are the messages of "seq" and "seqs"; each is positive and below
	// 1<<63. The same one may come twice.
	Seqs []uint64
	// UpTo acknowledges all that this connection was sent with seq <= UpTo; 0
	// is absent.
	UpTo uint64
	// Cancel is the id of a request that its sender gives up, or of a delayed
	// message that its sender takes back; "" is absent.
	Cancel string
	// Reject ends one message without accepting it; its Seq is 0 when
	// absent.
	Reject Reject
}

// Reject is a message that a device refuses: it will not be sent again.
type Reject struct {
	Seq    uint64
	Reason string // for people, at most [MaxReason] bytes; may be empty
}

// MaxReason is the longest reason of a rejection, in bytes.
const MaxReason = 256

// The fields of an acknowledgement.
const (
	aSeq = iota
	aSeqs
	aUpTo
	aCancel
	aReject
	ackFields
)

var ackNames = [ackFields]string{"payload.seq", "payload.seqs", "payload.upTo", "payload.cancel", "payload.reject"}

func ackField(key []byte) int { return payloadField(ackNames[:], key) }

const wantSeq = "a positive integer, the seq of a message"

// DecodeAck reads the payload of an ack from a device. Sequence numbers are
// appended to dst, which may be nil, and are Seqs in the answer; when they fit
// nothing is allocated. At least one of seq, seqs, upTo, reject and cancel must
// be there. The error is an [*Error] with BAD_MESSAGE; nothing is to be
// acknowledged then.
func DecodeAck(dst []uint64, payload []byte) (Ack, error) {
	d := decoder{b: payload, names: ackNames[:]}
	if !d.object(ackField) {
		return Ack{}, NewError(BadMessage, `payload of an ack must be an object: {"seq":n}, {"seqs":[…]} or {"upTo":n}`)
	}
	a := Ack{Seqs: dst}
	if d.f[aSeq].given() {
		a.Seqs = append(a.Seqs, uint64(d.integer(aSeq, 1, math.MaxInt64, wantSeq))) //nolint:gosec // integer bounds it
	}
	if d.f[aSeqs].given() {
		a.Seqs = d.seqs(a.Seqs)
	}
	a.UpTo = uint64(d.integer(aUpTo, 1, math.MaxInt64, wantSeq)) //nolint:gosec // integer bounds it
	if d.f[aCancel].given() {
		if a.Cancel = d.str(aCancel); !validKey(a.Cancel) {
			d.fail(aCancel, wantID)
		}
	}
	if d.f[aReject].given() {
		a.Reject = d.reject()
	}
	switch {
	case d.bad != nil:
		return Ack{}, d.bad
	case !d.f[aSeq].given() && !d.f[aSeqs].given() && a.UpTo == 0 && a.Cancel == "" && a.Reject.Seq == 0:
		return Ack{}, NewError(BadMessage, "an ack must hold seq, seqs, upTo, reject or cancel")
	}
	return a, nil
}

// reject reads what the device refuses.
func (d *decoder) reject() Reject {
	const (
		jSeq = iota
		jReason
	)
	names := [...]string{"payload.reject.seq", "payload.reject.reason"}
	in := decoder{b: d.raw(aReject), names: names[:]}
	index := func(key []byte) int { return member(names[:], "payload.reject.", key) }
	if d.f[aReject].kind != isObject || !in.object(index) {
		d.fail(aReject, `an object such as {"seq":17,"reason":"cannot parse"}`)
		return Reject{}
	}
	if !in.f[jSeq].given() {
		in.missing(jSeq, wantSeq)
	}
	r := Reject{Seq: uint64(in.integer(jSeq, 1, math.MaxInt64, wantSeq)), Reason: in.prose(jReason)} //nolint:gosec // integer bounds it
	if len(r.Reason) > MaxReason {
		in.fail(jReason, "a string of at most "+strconv.Itoa(MaxReason)+" bytes")
	}
	if d.bad == nil {
		d.bad = in.bad
	}
	return r
}

// object scans the payload as one object, whatever text it is.
func (d *decoder) object(index func([]byte) int) bool {
	s := scanner{b: d.b}
	s.space()
	if s.peek() != '{' || !s.members(insideEnvelope+1, d.f[:], index) {
		return false
	}
	s.space()
	return s.i == len(d.b)
}

// seqs appends the array of sequence numbers to dst.
func (d *decoder) seqs(dst []uint64) []uint64 {
	const want = "an array of positive integers"
	if d.f[aSeqs].kind != isArray {
		d.fail(aSeqs, want)
		return dst
	}
	s := scanner{b: d.b, i: d.f[aSeqs].at + 1}
	for s.space(); !s.take(']'); s.space() {
		s.take(',') // scanned before: it is where it must be
		s.space()
		v, _ := s.value(0)
		n, fits, ok := parseInt(d.b[v.at:v.end])
		if v.kind != isNumber || !ok || !fits || n < 1 {
			d.fail(aSeqs, want)
			return dst
		}
		dst = append(dst, uint64(n))
	}
	return dst
}

// Append appends the acknowledgement as a whole envelope, as a device sends
// it: {"type":"ack","payload":{…}}.
func (a *Ack) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"ack","payload":`...)
	from := len(dst)
	switch len(a.Seqs) {
	case 0:
	case 1:
		dst = strconv.AppendUint(append(dst, `,"seq":`...), a.Seqs[0], 10)
	default:
		dst = append(dst, `,"seqs":[`...)
		for i, seq := range a.Seqs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, seq, 10)
		}
		dst = append(dst, ']')
	}
	if a.UpTo != 0 {
		dst = strconv.AppendUint(append(dst, `,"upTo":`...), a.UpTo, 10)
	}
	dst = appendField(dst, `,"cancel":`, a.Cancel)
	if a.Reject.Seq != 0 {
		dst = strconv.AppendUint(append(dst, `,"reject":{"seq":`...), a.Reject.Seq, 10)
		dst = append(appendField(dst, `,"reason":`, a.Reject.Reason), '}')
	}
	return append(closeObject(dst, from), '}')
}

// appendHead opens an envelope that the edge sends in its own name.
func appendHead(dst []byte, typ, id, timestamp string) []byte {
	dst = AppendString(append(dst, `{"type":`...), typ)
	dst = appendField(dst, `,"id":`, id)
	dst = append(dst, `,"fromDeviceId":"server"`...)
	return appendField(dst, `,"timestamp":`, timestamp)
}

// Status says what became of a message, in the payload of an ack to its sender.
type Status string

// What can become of a message.
const (
	StatusSuccess   Status = "success"   // not of a message: the device is registered
	StatusAccepted  Status = "accepted"  // stored, or handed to connected devices
	StatusDelivered Status = "delivered" // acknowledged by a recipient
	StatusExpired   Status = "expired"   // its time to live ended first
	StatusReplaced  Status = "replaced"  // a newer one with its collapse key came first
	StatusRejected  Status = "rejected"  // refused by a recipient, see Outcome.Reason
	// StatusUndeliverable is the end of a message that cannot be delivered to
	// this recipient, see Outcome.Reason.
	StatusUndeliverable Status = "undeliverable"
)

// Reasons, of an [Outcome], a [Gap] or an event, where RCCS gives one. The
// reason of a rejection is the device's own text, or [ReasonMaxDeliveries].
const (
	ReasonRetention     = "retention"     // it passed its retention, or was discarded
	ReasonPurged        = "purged"        // an operator purged it
	ReasonTooLarge      = "tooLarge"      // no frame that the device takes can hold it
	ReasonDamaged       = "damaged"       // the store cannot read it
	ReasonReset         = "reset"         // of a gap: sequences begin anew
	ReasonMaxDeliveries = "maxDeliveries" // sent on as many connections as the edge allows, never acknowledged
	ReasonNoDevice      = "noDevice"      // no device can take it
	ReasonBadSubject    = "badSubject"    // its subject names no device
	ReasonBadSchedule   = "badSchedule"   // its schedule is missing, odd or too far ahead
)

// Recipient is a device that a message was stored for.
type Recipient struct {
	DeviceID subjects.DeviceID `json:"deviceId"`
	Seq      uint64            `json:"seq,omitempty"` // 0 until deliverAt, and for an ephemeral message
}

// Accepted answers a message with requiresAck.
type Accepted struct {
	OriginalID string
	Recipients []Recipient // empty while a task waits for a device
	Duplicate  bool
}

// AppendPayload appends the payload alone.
func (a *Accepted) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"originalMessageId":`...), a.OriginalID)
	dst = append(dst, `,"status":"accepted","recipients":[`...)
	for i := range a.Recipients {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(append(dst, `{"deviceId":`...), string(a.Recipients[i].DeviceID))
		if seq := a.Recipients[i].Seq; seq != 0 {
			dst = strconv.AppendUint(append(dst, `,"seq":`...), seq, 10)
		}
		dst = append(dst, '}')
	}
	return append(strconv.AppendBool(append(dst, `],"duplicate":`...), a.Duplicate), '}')
}

// Append appends the whole envelope, type ack, from the server.
func (a *Accepted) Append(dst []byte) []byte {
	dst = append(appendHead(dst, TypeAck, "", ""), `,"payload":`...)
	return append(a.AppendPayload(dst), '}')
}

// Outcome tells a sender what became of its message at one recipient. It is
// durable: it travels in an envelope of type ack that carries a seq.
type Outcome struct {
	OriginalID  string
	Status      Status // delivered, expired, replaced, rejected or undeliverable
	DeviceID    subjects.DeviceID
	DeliveredAt string // RFC 3339; "" unless delivered
	Reason      string // "" where there is none to give
}

// AppendPayload appends the payload alone.
func (o *Outcome) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"originalMessageId":`...), o.OriginalID)
	dst = AppendString(append(dst, `,"status":`...), string(o.Status))
	dst = appendField(dst, `,"deviceId":`, string(o.DeviceID))
	dst = appendField(dst, `,"deliveredAt":`, o.DeliveredAt)
	return append(appendField(dst, `,"reason":`, o.Reason), '}')
}

// AppendPayload appends the payload of an error message alone.
func (e *Error) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"code":`...), string(e.Code))
	dst = AppendString(append(dst, `,"message":`...), e.Text())
	dst = appendField(dst, `,"originalMessageId":`, e.OriginalID)
	if ms := e.RetryAfter.Milliseconds(); ms > 0 {
		dst = strconv.AppendInt(append(dst, `,"retryAfterMs":`...), ms, 10)
	}
	return append(appendStrings(dst, `,"urls":`, e.URLs), '}')
}

// Append appends the whole envelope, type error, from the server.
func (e *Error) Append(dst []byte) []byte {
	dst = append(appendHead(dst, TypeError, "", ""), `,"payload":`...)
	return append(e.AppendPayload(dst), '}')
}

// Contains reports whether the acknowledgement is of the message seq.
func (a *Ack) Contains(seq uint64) bool {
	return seq != 0 && (seq <= a.UpTo || slices.Contains(a.Seqs, seq))
}
