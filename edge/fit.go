package edge

import (
	"math"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A device takes frames up to its maxFrameBytes. Nothing larger may be sent to
// it: a parser that fails on a frame would fail on it again after each reconnect,
// and never reach what follows. So everything that is written is measured
// together with what the edge adds around a payload.

// frameLimit returns the largest frame for a device that asks for one.
func (o *Options) frameLimit(asked int64) int {
	if asked <= 0 {
		return o.MaxFrameBytes
	}
	return int(min(max(asked, wire.MinFrame), int64(o.MaxFrameBytes)))
}

// headerRoom is more than an envelope adds around a payload and headers. A byte
// of a header becomes up to maxEscape bytes.
const (
	headerRoom = 512
	maxEscape  = 6 // "\u0009" for a byte
)

// Fits implements [inbox.Receiver].
func (c *conn) Fits(m *envelope.Message) bool { return fits(c.who.Address, c.maxFrame, m) }

// fits reports whether a stored message fits a frame of limit bytes to a device.
// Only messages close to the limit have to be encoded to find out.
func fits(to subjects.Address, limit int, m *envelope.Message) bool {
	names := len(to.User) + len(to.Device) + m.HeaderBytes()
	// A body that is not JSON becomes base64.
	if headerRoom+maxEscape*names+len(m.Data)+len(m.Data)/3 <= limit {
		return true
	}
	// The fields depend on whether RCCS itself wrote the message, so try
	// both. The message is shared and must not change.
	other := *m
	other.Authentic = !m.Authentic
	for _, one := range []*envelope.Message{m, &other} {
		if len(envelope.Append(nil, &envelope.Delivery{Message: one, Redelivered: true}, to)) > limit {
			return false
		}
	}
	return true
}

// answerLen returns the greatest length of the envelope of an answer with a
// payload of that size.
func answerLen(payload int) int { return emptyAnswer + payload }

var emptyAnswer = len((&wire.Envelope{
	ID: answerID(math.MaxUint64), Type: wire.TypePresence, FromDeviceID: wire.Server, Payload: []byte{}, Priority: wire.Normal,
	Timestamp: wire.FormatTime(time.Unix(0, 0)),
}).Append(nil))

// tooLargeGap returns the gap that tells a subscriber of a message that does not
// fit.
func tooLargeGap(m *topic.Message) wire.Gap {
	return wire.Gap{Topic: m.Topic, From: m.Seq, To: m.Seq, Count: 1, Reason: wire.ReasonTooLarge}
}

// page gathers envelopes for the answer to a history request, as long as they fit
// its frame.
type page struct {
	list []byte // a JSON array, not closed
	room int    // for the list
}

// newPage returns an empty page of the answer to a history request.
func newPage(originalID string, maxFrame int) *page {
	empty := wire.HistoryPage{OriginalID: originalID, Next: math.MaxUint64}
	return &page{list: []byte{'['}, room: min(historyBytes, maxFrame-answerLen(len(empty.AppendPayload(nil))))}
}

// insideHistory is how many JSON containers are open around a message of a
// history: the list, the payload, its envelope, and an array of envelopes.
const insideHistory = 4

// add adds an envelope to the list, and reports whether there was room. One that
// fits no page is added without its payload.
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

// withoutPayload returns a history's message without its payload, marked as too
// large.
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

// fitDevices moves devices that do not fit the frame to the next page. A device
// that fits no page is listed without its capabilities and extra fields.
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
