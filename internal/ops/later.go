package ops

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
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
		removed, err := t.cancelLater(ctx, key, &d.waiting)
		if removed {
			n++
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// cancelLater removes a delayed message, and tells its sender if it asked; false: the
// message has come due, or is gone.
func (t *Tenant) cancelLater(ctx context.Context, key *proof.Key, w *inbox.Waiting) (removed bool, err error) {
	mark, certain, err := w.Cancel(ctx, t.js, t.direct, key)
	if err != nil || !certain {
		return mark > 0, err
	}
	if msg := w.Purged(key); msg != nil {
		if _, err := t.js.PublishMsg(ctx, msg); err != nil {
			return true, fmt.Errorf("ops: tell the sender of a delayed message: %w", err)
		}
	}
	_, err = t.purge(ctx, subjects.StreamLater, w.Subject, mark+1)
	return true, err
}

// PurgeLater removes a user's delayed messages as a request to purge their stream does:
// those on the subjects of filter, below seq if that is more than 1, but for the last keep.
// It returns how many it removed, and tells the senders that asked. A message that comes
// due meanwhile is delivered, and not counted.
func (t *Tenant) PurgeLater(ctx context.Context, filter string, seq, keep uint64) (n uint64, err error) {
	if !layout.MayHoldLater(filter) {
		return 0, nil // nothing is stored there, and JetStream has no consumer for it
	}
	key, err := t.proof(ctx)
	if err != nil {
		return 0, err
	}
	last, err := t.head(ctx, subjects.StreamLater)
	if err != nil {
		return 0, err
	}
	before := last + 1 // what is stored from now on has not been looked at
	if before == 1 {
		return 0, nil
	}
	if seq > 1 { // to JetStream 1 is no bound
		before = min(before, seq)
	}
	var all []uint64
	var asked, others []*inbox.Waiting
	marks := false // of those that are being cancelled
	err = t.scan(ctx, subjects.StreamLater, filter, time.Time{}, nil, func(e *reader.Entry) {
		w := &inbox.Waiting{Stream: subjects.StreamLater, Subject: e.Subject, Seq: e.Seq, Header: e.Header}
		all = append(all, e.Seq)
		switch {
		case inbox.Ended(key, e):
			marks = true
		case w.Purged(key) != nil:
			asked = append(asked, w)
		default:
			w.Header = nil
			others = append(others, w)
		}
	})
	if err != nil || keep > 0 && keep >= uint64(len(all)) {
		return 0, err
	}
	if keep > 0 {
		before = min(before, all[uint64(len(all))-keep])
	}
	for _, w := range asked {
		if w.Seq >= before {
			break
		}
		removed, err := t.cancelLater(ctx, key, w)
		if removed {
			n++
		}
		if err != nil {
			return n, err
		}
	}
	if !marks {
		others = []*inbox.Waiting{{Subject: filter, Seq: before - 1}} // all at once
	}
	for _, w := range others {
		if w.Seq >= before {
			break
		}
		removed, err := t.purge(ctx, subjects.StreamLater, w.Subject, w.Seq+1)
		n += removed
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
