package wire

import (
	"strconv"
	"time"
)

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

func (to *To) append(dst []byte) []byte {
	from := len(dst)
	dst = appendField(dst, `,"device":`, string(to.Device))
	dst = appendField(dst, `,"deviceType":`, to.DeviceType)
	dst = appendField(dst, `,"capability":`, to.Capability)
	dst = appendFlag(dst, `,"service":true`, to.Service)
	dst = appendField(dst, `,"mode":`, to.Mode)
	return closeObject(dst, from)
}

// closeObject makes an object of the members that stand in dst from from on,
// each with a comma before it.
func closeObject(dst []byte, from int) []byte {
	if len(dst) == from {
		return append(dst, "{}"...)
	}
	dst[from] = '{'
	return append(dst, '}')
}

// appendField appends key, which holds its comma and colon, and the value;
// nothing for an empty one.
func appendField(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return AppendString(append(dst, key...), value)
}

func appendFlag(dst []byte, member string, set bool) []byte {
	if !set {
		return dst
	}
	return append(dst, member...)
}
