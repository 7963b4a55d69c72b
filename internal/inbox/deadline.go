package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Deadline is an entry of the stream of deadlines: a message whose sender
// wants to hear when its time to live has ended. A mailbox never gives such a
// message out, but for a device that is away nobody looks at it.
type Deadline struct {
	Seq  uint64    `json:"seq"`
	Lane string    `json:"lane"`
	At   time.Time `json:"at"`
	ID   string    `json:"id"`
	From string    `json:"from,omitempty"` // the sending device; empty for a service
	Type string    `json:"type,omitempty"`
}

// noteDeadline stores an entry for a message that needs one. Every hub does
// so; the store keeps one.
func (h *Hub) noteDeadline(m *Message) {
	at := m.expires()
	if at == 0 {
		return
	}
	a := m.requester()
	if a == nil {
		return
	}
	body, err := json.Marshal(&Deadline{
		Seq: m.Seq, Lane: m.Lane.String(), At: time.Unix(0, at).UTC(), ID: a.id, From: a.from, Type: a.kind,
	})
	if err != nil {
		return
	}
	msg := &nats.Msg{
		Subject: subjects.Deadline(m.Key), Data: body,
		Header: nats.Header{jetstream.MsgIDHeader: {"deadline/" + strconv.FormatUint(m.Seq, 10)}},
	}
	// The hub's lock is held, and the publisher may wait.
	go h.opts.Publish.Publish(msg, func(_ Receipt, err error) {
		if err != nil { // the device's own mailbox will tell, when it is back
			h.opts.Logger.Warn("deadline not stored", "device", string(m.Key), "seq", m.Seq, "err", err)
		}
	})
}

// Fate is what is to be done about a message whose time to live has ended.
type Fate int

// The fates.
const (
	// Over: it is acknowledged, or its sender has been told.
	Over Fate = iota
	// InFlight: the device was sent it in time and may still acknowledge it.
	InFlight
)

// Expirer tells senders that a message's time to live has ended.
type Expirer struct {
	cursors *direct.Last
	publish *Publisher
}

// NewExpirer makes one that reads cursors by c and stores outcomes by p.
func NewExpirer(c *direct.Client, p *Publisher) *Expirer {
	return &Expirer{cursors: c.Last(subjects.StreamCursor, false), publish: p}
}

// Expire looks at a message whose deadline has passed by so much that the
// device's cursor is up to date. Unless it is acknowledged, or on its way to a
// device that is online, its sender is told.
func (x *Expirer) Expire(ctx context.Context, key subjects.Key, d *Deadline, online bool) (Fate, error) {
	lane, ok := subjects.ParseLane(d.Lane)
	if !ok {
		return Over, fmt.Errorf("inbox: deadline of %s: lane %q", key, d.Lane)
	}
	found, err := x.cursors.Get(ctx, []string{subjects.Cursor(key)})
	if err != nil {
		return InFlight, err
	}
	if found[0] != nil {
		c, err := ParseCursor(found[0].Data)
		if err == nil && d.Seq <= c.Sent[lane] {
			if !slices.Contains(c.Unacked[lane], d.Seq) {
				return Over, nil
			}
			if online {
				return InFlight, nil
			}
		}
	}
	o := outcome{
		key: key, lane: lane, seq: d.Seq, status: wire.StatusExpired, at: time.Now().UnixNano(),
		requester: &ackRequester{id: d.ID, from: d.From, kind: d.Type},
	}
	msg := o.message()
	if msg == nil {
		return Over, nil
	}
	stored := make(chan error, 1)
	x.publish.Publish(msg, func(_ Receipt, err error) { stored <- err })
	select {
	case err := <-stored:
		return Over, err
	case <-ctx.Done():
		return InFlight, ctx.Err()
	}
}
