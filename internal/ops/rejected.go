package ops

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// RejectedMessage is a message that its device refused, or that was too large
// for it. It is stored, and can be replayed.
type RejectedMessage struct {
	Seq        uint64    `json:"seq"`
	Lane       string    `json:"lane"`
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	Timestamp  string    `json:"timestamp"`
	Reason     string    `json:"reason"`
	RejectedAt time.Time `json:"rejectedAt"`
}

// reasonTooLarge is that of a message that did not fit the device.
const reasonTooLarge = "tooLarge"

// Rejected lists the rejected messages of a device that are still stored, by
// sequence. The error wraps [ErrUnknownDevice] when there is no such device.
func (t *Tenant) Rejected(ctx context.Context, a subjects.Address) ([]*RejectedMessage, error) {
	if _, err := t.check(ctx, a); err != nil {
		return nil, err
	}
	found := make(map[uint64]*RejectedMessage)
	for _, kind := range []string{"rejected", "undeliverable"} {
		err := t.read(ctx, subjects.StreamEvent, subjects.Event(a.Key(), kind), func(e *reader.Entry) {
			var body struct {
				Seq    uint64 `json:"seq"`
				Reason string `json:"reason"`
			}
			if json.Unmarshal(e.Data, &body) == nil && body.Seq > 0 && (kind == "rejected" || body.Reason == reasonTooLarge) {
				found[body.Seq] = &RejectedMessage{Seq: body.Seq, Reason: body.Reason, RejectedAt: time.Unix(0, e.Time).UTC()}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	list := make([]*RejectedMessage, 0, len(found))
	for _, seq := range slices.Sorted(maps.Keys(found)) {
		stored, _, err := t.direct.Get(ctx, subjects.StreamInbox, &direct.Request{Seq: seq, Batch: 1})
		if err != nil {
			return nil, err
		}
		if len(stored) == 0 || stored[0].Seq != seq {
			continue // gone
		}
		if k, l, ok := subjects.ParseInbox(stored[0].Subject); ok && k == a.Key() {
			m, r := newMessage(&stored[0], l), found[seq]
			r.Lane, r.ID, r.Type, r.Timestamp = m.Lane, m.ID, m.Type, m.Timestamp
			list = append(list, r)
		}
	}
	return list, nil
}
