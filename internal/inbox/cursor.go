package inbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/rccs-io/rccs/subjects"
)

// Cursor is what is known of a device's acknowledgements. It is stored as JSON,
// one message a device, on the cursor stream:
//
//	{"sent":[0,17,0,0],"unacked":[[],[12,15],[],[]],"open":true,"asked":[15],"epoch":3}
//
// Indexes are lanes, low first. Everything in a lane up to sent was sent to
// the device at some time, and all of that is acknowledged but for unacked.
// open says that a session was live when this was written: what lies above
// sent may then have been sent as well.
type Cursor struct {
	Sent    [subjects.Lanes]uint64   `json:"sent"`
	Unacked [subjects.Lanes][]uint64 `json:"unacked"`
	Open    bool                     `json:"open,omitempty"`
	// AckRequested are those of Unacked whose senders want to hear what becomes of
	// them, in ascending order over all lanes.
	AckRequested []uint64 `json:"asked,omitempty"`
	// Epoch is that of the session which wrote this; a later one's stands.
	Epoch uint64 `json:"epoch,omitempty"`
}

// AckFloor is the sequence of a lane up to which all is acknowledged.
func (c *Cursor) AckFloor(lane subjects.Lane) uint64 {
	if u := c.Unacked[lane]; len(u) > 0 {
		return u[0] - 1
	}
	return c.Sent[lane]
}

// cut brings one lane back to last.
func (c *Cursor) cut(lane subjects.Lane, last uint64) {
	c.Sent[lane] = min(c.Sent[lane], last)
	c.Unacked[lane] = slices.DeleteFunc(slices.Clone(c.Unacked[lane]), func(seq uint64) bool { return seq > last })
}

// ParseCursor reads a stored cursor and refuses one that makes no sense.
func ParseCursor(data []byte) (Cursor, error) {
	var c Cursor
	if err := json.Unmarshal(data, &c); err != nil {
		return Cursor{}, fmt.Errorf("inbox: cursor: %w", err)
	}
	for lane, unacked := range c.Unacked {
		last := uint64(0)
		for _, seq := range unacked {
			if seq <= last || seq > c.Sent[lane] {
				return Cursor{}, fmt.Errorf("inbox: cursor: lane %s: %d is out of order or above %d", subjects.Lane(lane), seq, c.Sent[lane])
			}
			last = seq
		}
	}
	if !slices.IsSorted(c.AckRequested) {
		return Cursor{}, fmt.Errorf("inbox: cursor: asked is out of order: %v", c.AckRequested)
	}
	return c, nil
}

// Append appends the cursor as it is stored.
func (c *Cursor) Append(dst []byte) []byte {
	dst = append(dst, `{"sent":[`...)
	for lane, seq := range c.Sent {
		if lane > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, seq, 10)
	}
	dst = append(dst, `],"unacked":[`...)
	for lane, unacked := range c.Unacked {
		if lane > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '[')
		for i, seq := range unacked {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, seq, 10)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, ']')
	if c.Open {
		dst = append(dst, `,"open":true`...)
	}
	for i, seq := range c.AckRequested {
		if i == 0 {
			dst = append(dst, `,"asked":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, seq, 10)
	}
	if len(c.AckRequested) > 0 {
		dst = append(dst, ']')
	}
	if c.Epoch > 0 {
		dst = strconv.AppendUint(append(dst, `,"epoch":`...), c.Epoch, 10)
	}
	return append(dst, '}')
}
