package edge

import (
	"math"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A device may take frames up to maxFrameBytes only, and nothing may be sent to
// it that is larger: a parser that gives up on a frame would give up on it again
// after each reconnect, and on all that follows. So whatever is written is
// measured with all that the edge adds around a payload.

// frameLimit is the largest frame for a device that asks for one.
func (o *Options) frameLimit(asked int64) int {
	if asked <= 0 {
		return o.MaxFrameBytes
	}
	return int(min(max(asked, wire.MinFrame), int64(o.MaxFrameBytes)))
}

// headerRoom is more than what an envelope adds around a payload and headers
// that have as many bytes as escapes may make of them.
const (
	headerRoom = 512
	maxEscape  = 6 // "\u0009" for a byte
)

// fits returns a function that reports whether a stored message fits a frame of
// limit bytes to a device. It is called with the hub's locks held. Few messages
// are so near to the limit that they have to be encoded to know.
func fits(to subjects.Address, limit int) func(*envelope.Message) bool {
	return func(m *envelope.Message) bool {
		names := len(to.User) + len(to.Device) + m.HeaderBytes()
		// A body that is not JSON becomes base64.
		if headerRoom+maxEscape*names+len(m.Data)+len(m.Data)/3 <= limit {
			return true
		}
		// Whether a part of RCCS wrote it changes the fields. The message itself is
		// shared, and stays as it is.
		other := *m
		other.Authentic = !m.Authentic
		for _, one := range []*envelope.Message{m, &other} {
			if len(envelope.Append(nil, &envelope.Delivery{Message: one, Redelivered: true}, to)) > limit {
				return false
			}
		}
		return true
	}
}

// answerLen is how long the envelope of an answer with such a payload is at most.
func answerLen(payload int) int { return emptyAnswer + payload }

var emptyAnswer = len((&wire.Envelope{
	ID: answerID(math.MaxUint64), Type: wire.TypePresence, FromDeviceID: wire.Server, Payload: []byte{}, Priority: wire.Normal,
	Timestamp: wire.FormatTime(time.Unix(0, 0)),
}).Append(nil))

// tooLargeGap tells a subscriber of a message that does not fit.
func tooLargeGap(m *topic.Message) wire.Gap {
	return wire.Gap{Topic: m.Topic, From: m.Seq, To: m.Seq, Count: 1, Reason: wire.ReasonTooLarge}
}

// page gathers envelopes for the answer to history while they fit its frame.
type page struct {
	list []byte // a JSON array, not closed
	room int    // for the list
}

// newPage returns an empty page of the answer to a question.
func newPage(originalID string, maxFrame int) *page {
	empty := wire.HistoryPage{OriginalID: originalID, Next: math.MaxUint64}
	return &page{list: []byte{'['}, room: min(historyBytes, maxFrame-answerLen(len(empty.AppendPayload(nil))))}
}

// insideHistory is how many containers are open around a message of a history:
// the list, the payload and the envelope that it is in, and an array of those.
const insideHistory = 4

// add takes an envelope of the list, and reports whether there was room. One
// that fits no page is taken without its payload.
func (p *page) add(e []byte) bool {
	alone := len(p.list) == 1
	tooDeep := len(e) > 2*(wire.MaxDepth-insideHistory) && !wire.EmbeddableIn(e, insideHistory)
	if len(e)+len("[]") > p.room || tooDeep {
		e = withoutPayload(e)
	}
	if len(p.list)+len(",")+len(e)+len("]") > p.room && !alone {
		return false
	}
	if !alone {
		p.list = append(p.list, ',')
	}
	p.list = append(p.list, e...)
	return true
}

func (p *page) close() []byte { return append(p.list, ']') }

// withoutPayload is a message of a history that says that it is too large.
func withoutPayload(encoded []byte) []byte {
	items, err := wire.DecodeFrame(nil, encoded)
	if err != nil || len(items) != 1 || items[0].Err != nil {
		return encoded
	}
	e := items[0].Envelope
	e.Payload, e.Encoding, e.TooLarge = nil, "", true
	e.CorrelationID, e.CollapseKey, e.Traceparent = "", "", "" // there may be no room for them
	return e.Append(nil)
}

// fitDevices moves devices that do not fit the frame to the next page. Of a
// device that fits no page the capabilities are left out, and what it says of
// itself.
func fitDevices(list *wire.DeviceList, maxFrame int) {
	all := list.Devices
	bare := wire.DeviceList{OriginalID: list.OriginalID}
	longest := 0 // of the names that Next may have
	for i := range all {
		longest = max(longest, len(wire.AppendString(nil, string(all[i].ID))))
	}
	used := answerLen(len(bare.AppendPayload(nil))) + len(`,"next":`) + longest
	for i := range all {
		size := deviceLen(&all[i])
		if used+size > maxFrame && i > 0 {
			list.Devices, list.Next = all[:i], all[i].ID
			return
		}
		if used+size > maxFrame {
			all[i].Capabilities, all[i].Extra = nil, nil
			size = deviceLen(&all[i])
		}
		used += size + len(",")
	}
}

func deviceLen(d *wire.Device) int {
	one := wire.DeviceList{Devices: []wire.Device{*d}}
	return len(one.AppendPayload(nil)) - len((&wire.DeviceList{}).AppendPayload(nil))
}
