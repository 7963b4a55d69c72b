package inbox

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A message that a device rejects, or that is too large for any frame to it, is
// finalized, so that nothing waits behind it. It stays in the stream until
// retention removes it. An event says why it was rejected; these events are the
// list of what is kept. There is one for every such message, whoever sent it.

// kept reports whether a message that ends with status is kept as rejected.
func kept(status wire.Status) bool {
	return status == wire.StatusRejected || status == wire.StatusUndeliverable
}

// rejectedEvent is the body of the events rejected and undeliverable.
type rejectedEvent struct {
	Kind      string    `json:"kind"`
	User      string    `json:"user"`
	Device    string    `json:"device"`
	At        time.Time `json:"at"`
	ID        string    `json:"id"`
	Type      string    `json:"type,omitempty"`
	Lane      string    `json:"lane"`
	Seq       uint64    `json:"seq"`
	Subject   string    `json:"subject"`
	Reason    string    `json:"reason,omitempty"`
	Timestamp string    `json:"timestamp,omitempty"`
	From      string    `json:"from,omitempty"`
}

// rejection returns the event of a message that is kept as rejected.
func rejection(m *envelope.Message, status wire.Status, reason string, at time.Time) *nats.Msg {
	to, err := m.Key.Address()
	if err != nil {
		return nil
	}
	kind := string(status)
	body, err := json.Marshal(&rejectedEvent{
		Kind: kind, User: string(to.User), Device: string(to.Device), At: at.UTC(), ID: m.ID(), Type: m.Value(subjects.HeaderType),
		Lane: m.Lane.String(), Seq: m.Seq, Subject: subjects.Inbox(m.Key, m.Lane), Reason: reason,
		Timestamp: m.Timestamp(), From: m.Value(subjects.HeaderFrom),
	})
	if err != nil {
		return nil
	}
	return &nats.Msg{
		Subject: subjects.Event(m.Key, kind), Data: body,
		Header: nats.Header{jetstream.MsgIDHeader: {eventID(m.Seq, m.ID())}},
	}
}

// keep stores the event of a message that is kept as rejected, unless the message
// is gone. It reports whether it did.
func (h *Hub) keep(ctx context.Context, o *outcome) (bool, error) {
	// The leader is asked: a lagging replica would say that the message is gone.
	got, err := h.fetch.AtLeader(ctx, layout.StreamInbox, subjects.Inbox(o.key, o.lane), o.seq)
	if err != nil || got == nil || got.Seq != o.seq {
		return false, err
	}
	m, ok := envelope.Parse(h.opts.Publish.Proof, envelope.Stored(*got))
	if !ok {
		return false, nil
	}
	msg := rejection(m, o.status, o.reason, time.Unix(0, o.at))
	if msg == nil {
		return false, nil
	}
	again := false // it was kept before
	writes := newAwaited()
	done := writes.add()
	h.opts.Publish.Publish(msg, func(r Receipt, err error) {
		again = r.Duplicate
		done(r, err)
	})
	if err := writes.wait(ctx); err != nil {
		return false, err
	}
	if h.opts.Rejected != nil && !again {
		h.opts.Rejected(rejectedFor(o.status, o.reason))
	}
	return true, nil
}

// The causes for which a message is kept as rejected.
const (
	RejectedByDevice      = "device"
	RejectedMaxDeliveries = wire.ReasonMaxDeliveries
	RejectedTooLarge      = wire.ReasonTooLarge
)

func rejectedFor(status wire.Status, reason string) string {
	switch {
	case status == wire.StatusUndeliverable:
		return RejectedTooLarge
	case reason == wire.ReasonMaxDeliveries:
		return RejectedMaxDeliveries
	}
	return RejectedByDevice
}

// Reject finalizes a message without accepting it: its sender is told, and it is
// kept as rejected. Like Ack, it ignores a sequence that the device was never
// sent.
func (mb *Mailbox) Reject(seq uint64, reason string) {
	mb.whileOpen(func(now int64) { mb.rejectLocked(seq, reason, now) })
}

func (mb *Mailbox) rejectLocked(seq uint64, reason string, now int64) {
	for n := range mb.lanes {
		l := &mb.lanes[n]
		if i, ok := l.find(seq); ok {
			if s := &l.unacked[i]; s.end == nil {
				s.end = &verdict{status: wire.StatusRejected, reason: reason}
				mb.hub.outcomes.add(outcome{
					key: mb.key, lane: subjects.Lane(n), seq: seq, requester: s.requester,
					status: wire.StatusRejected, reason: reason, at: now,
					stored: s.stored, again: mb.hub.mayBeTold(s.redelivered, s.stored, now),
				})
				mb.confirmGapsLocked(s.order)
			}
			return
		}
	}
	if seq != 0 && seq <= mb.hub.head.Load() && !mb.drainedLocked() {
		mb.earlyLocked(seq, verdict{status: wire.StatusRejected, reason: reason}) // its turn has not come yet
	}
}

// verdict is how a message ends, and why.
type verdict struct {
	status wire.Status
	reason string
	// storing: its outcome is on its way to the store. Otherwise the message has not
	// come up yet.
	storing bool
}
