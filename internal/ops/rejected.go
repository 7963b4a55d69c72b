package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// RejectedMessage is a message that its device refused, or that was too large
// for it. It is stored, and can be replayed.
type RejectedMessage struct {
	// User and Device are whose inbox holds it; they are left out where one
	// device was asked for.
	User       string    `json:"user,omitempty"`
	Device     string    `json:"device,omitempty"`
	Seq        uint64    `json:"seq"`
	Lane       string    `json:"lane"`
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	Timestamp  string    `json:"timestamp"`
	Reason     string    `json:"reason"`
	RejectedAt time.Time `json:"rejectedAt"`

	message *Message
}

// reasonTooLarge is that of a message that did not fit the device.
const reasonTooLarge = "tooLarge"

// Rejected lists the rejected messages of a scope that are still stored, by
// sequence. Of a single device the error wraps [ErrUnknownDevice] when there is
// no such device.
func (t *Tenant) Rejected(ctx context.Context, scope subjects.Scope) ([]*RejectedMessage, error) {
	list, err := t.rejected(ctx, scope)
	for _, r := range list {
		r.message = nil
	}
	return list, err
}

// rejected is Rejected with the messages themselves.
func (t *Tenant) rejected(ctx context.Context, scope subjects.Scope) ([]*RejectedMessage, error) {
	if len(t.parts) > 0 && scope.User == "" {
		return t.rejectedOfAll(ctx, scope)
	}
	t = t.of(scope.User)
	if scope.Device != "" {
		if _, err := t.check(ctx, subjects.Address(scope)); err != nil {
			return nil, err
		}
	}
	noted, err := t.rejections(ctx, scope)
	if err != nil {
		return nil, err
	}
	found := make([]*RejectedMessage, len(noted))
	err = forEach(ctx, len(noted), nil, func(ctx context.Context, i int) (err error) {
		found[i], err = t.rejectedMessage(ctx, scope, &noted[i])
		return err
	})
	found = slices.DeleteFunc(found, func(r *RejectedMessage) bool { return r == nil })
	return found, err
}

// rejection is what an event says of a message that is kept.
type rejection struct {
	key    subjects.Key
	seq    uint64
	reason string
	at     time.Time
}

// rejections are the messages of a scope that events call rejected, by sequence.
func (t *Tenant) rejections(ctx context.Context, scope subjects.Scope) ([]rejection, error) {
	noted := make(map[uint64]rejection)
	for _, kind := range []string{subjects.EventRejected, subjects.EventUndeliverable} {
		err := t.read(ctx, subjects.StreamEvent, scope.EventsOf(kind), func(e *reader.Entry) {
			var body struct {
				Seq    uint64 `json:"seq"`
				Reason string `json:"reason"`
			}
			k, _, ok := subjects.ParseEvent(e.Subject)
			if ok && t.shard.Holds(k.User()) && json.Unmarshal(e.Data, &body) == nil && body.Seq > 0 && (kind == subjects.EventRejected || body.Reason == reasonTooLarge) {
				noted[body.Seq] = rejection{key: k, seq: body.Seq, reason: body.Reason, at: time.Unix(0, e.Time).UTC()}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(noted), func(a, b rejection) int { return cmp.Compare(a.seq, b.seq) }), nil
}

// rejectedMessage reads the message that an event is about; nil when it is gone.
func (t *Tenant) rejectedMessage(ctx context.Context, scope subjects.Scope, n *rejection) (*RejectedMessage, error) {
	stored, _, err := t.direct.Get(ctx, layout.StreamInbox, &direct.Request{Seq: n.seq, Batch: 1})
	if err != nil {
		return nil, fmt.Errorf("ops: read the inbox: %w", err)
	}
	if len(stored) == 0 || stored[0].Seq != n.seq {
		return nil, nil
	}
	k, _, ok := subjects.ParseInbox(stored[0].Subject)
	a, err := k.Address()
	if !ok || err != nil || k != n.key {
		return nil, nil
	}
	key, err := t.proof(ctx)
	if err != nil {
		return nil, err
	}
	m := newMessage(key, &stored[0])
	r := &RejectedMessage{
		Seq: m.Seq, Lane: m.Lane, ID: m.ID, Type: m.Type, Timestamp: m.Timestamp, Reason: n.reason, RejectedAt: n.at, message: m,
	}
	if scope.Device == "" {
		r.User, r.Device = string(a.User), string(a.Device)
	}
	return r, nil
}

// rejectedMessages yields the rejected messages of a device, for a replay.
func (t *Tenant) rejectedMessages(ctx context.Context, a subjects.Address) (iter.Seq2[*Message, error], error) {
	list, err := t.rejected(ctx, subjects.Scope(a))
	if err != nil {
		return nil, err
	}
	return func(yield func(*Message, error) bool) {
		for _, r := range list {
			if !yield(r.message, nil) {
				return
			}
		}
	}, nil
}

// DropRejected removes rejected messages of a device for good, and returns how
// many: those of an id, or all of them when it is empty.
func (t *Tenant) DropRejected(ctx context.Context, a subjects.Address, id string) (uint64, error) {
	t = t.of(a.User)
	list, err := t.rejected(ctx, subjects.Scope(a))
	if err != nil {
		return 0, err
	}
	stream, err := t.js.Stream(ctx, layout.StreamInbox)
	if err != nil {
		return 0, t.notInstalled(layout.StreamInbox, err)
	}
	n := uint64(0)
	for _, r := range list {
		if id != "" && r.ID != id {
			continue
		}
		if err := stream.DeleteMsg(ctx, r.Seq); err != nil {
			return n, fmt.Errorf("ops: remove message %d: %w", r.Seq, err)
		}
		n++
	}
	return n, nil
}
