package ops

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Delayed is a message that waits until it is due.
type Delayed struct {
	User   string `json:"user"`
	Device string `json:"device"`
	Lane   string `json:"lane"`
	ID     string `json:"id"`
	Type   string `json:"type"`
	From   string `json:"from"`
	// Due is when it is delivered; absent when its schedule cannot be read.
	Due    time.Time `json:"due,omitzero"`
	Stored time.Time `json:"stored"`
	Bytes  int       `json:"bytes"` // of the payload

	waiting inbox.Waiting
}

// Later lists the delayed messages of a scope, those that are due first at the
// top.
func (t *Tenant) Later(ctx context.Context, scope subjects.Scope) (list []*Delayed, err error) {
	if len(t.parts) > 0 && scope.User == "" {
		return t.laterOfAll(ctx, scope)
	}
	t = t.of(scope.User)
	key, err := t.proof(ctx)
	if err != nil {
		return nil, err
	}
	err = t.scan(ctx, subjects.StreamLater, scope.Laters(), time.Time{}, nil, func(e *reader.Entry) {
		if inbox.Ended(key, e) {
			return
		}
		w := inbox.Waiting{Stream: subjects.StreamLater, Subject: e.Subject, Seq: e.Seq, Header: e.Header}
		if d := newDelayed(key, w, e.Time); d != nil {
			list = append(list, d)
		}
	})
	slices.SortStableFunc(list, func(a, b *Delayed) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.waiting.Subject, b.waiting.Subject))
	})
	return list, err
}

func newDelayed(p *proof.Key, w inbox.Waiting, at int64) *Delayed {
	k, l, ok := subjects.ParseLater(w.Subject)
	if !ok {
		return nil
	}
	a, err := k.Address()
	if err != nil {
		return nil
	}
	m := Message{Seq: w.Seq, Stored: time.Unix(0, at).UTC(), header: w.Header}
	stored, ok := envelope.Parse(p, envelope.Stored{Subject: subjects.Inbox(k, l), Header: w.Header}) // where it will be
	m.describe(ok && stored.Authentic)
	d := &Delayed{
		User: string(a.User), Device: string(a.Device), Lane: l.String(), ID: m.ID, Type: m.Type, From: string(m.From), Stored: m.Stored, waiting: w,
	}
	_, _ = fmt.Sscan(w.Header.Get("Nats-Msg-Size"), &d.Bytes)
	if due, ok := w.Due(); ok {
		d.Due = due.UTC()
	}
	return d
}

// CancelLater removes a user's delayed messages of an id, whoever sent them,
// and says how many there were. Senders that asked are told. A message that comes
// due meanwhile is delivered, and not counted.
func (t *Tenant) CancelLater(ctx context.Context, user subjects.UserID, id string) (uint64, error) {
	t = t.of(user)
	list, err := t.Later(ctx, subjects.Scope{User: user})
	if err != nil {
		return 0, err
	}
	key, err := t.proof(ctx)
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for _, d := range list {
		if d.ID != id {
			continue
		}
		mark, certain, err := d.waiting.Cancel(ctx, t.js, t.direct, key)
		if err != nil {
			return n, err
		}
		if mark > 0 {
			n++
		}
		if !certain {
			continue
		}
		if msg := d.waiting.Purged(key); msg != nil {
			if _, err := t.js.PublishMsg(ctx, msg); err != nil {
				return n, fmt.Errorf("ops: tell the sender of a delayed message: %w", err)
			}
		}
		if _, err := t.purge(ctx, subjects.StreamLater, d.waiting.Subject, mark+1); err != nil {
			return n, err
		}
	}
	return n, nil
}
