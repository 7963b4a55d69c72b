package ops

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// cursor is the stored cursor of a device; zero when there is none.
func (t *Tenant) cursor(ctx context.Context, k subjects.Key) (inbox.Cursor, error) {
	found, err := t.lastCursor.Get(ctx, []string{layout.Cursor(k)})
	if err != nil {
		return inbox.Cursor{}, fmt.Errorf("ops: read the cursor: %w", err)
	}
	if found[0] == nil {
		return inbox.Cursor{}, nil
	}
	c, err := inbox.ParseCursor(found[0].Data)
	if err != nil {
		return inbox.Cursor{}, fmt.Errorf("ops: %s of %s: %w", layout.StreamCursor, k, err)
	}
	return c, nil
}

// unacknowledged is the lowest sequence of a lane at or above seq that the
// device has not acknowledged, as far as its cursor tells.
func unacknowledged(c *inbox.Cursor, l subjects.Lane, seq uint64) uint64 {
	if seq > c.Sent[l] {
		return seq
	}
	unacked := c.Unacked[l]
	if i, _ := slices.BinarySearch(unacked, seq); i < len(unacked) {
		return unacked[i]
	}
	return c.Sent[l] + 1
}

// check reports whether a device is known, and returns its cursor. A cursor alone
// says nothing: a device that is forgotten leaves one.
func (t *Tenant) check(ctx context.Context, a subjects.Address) (inbox.Cursor, error) {
	k := a.Key()
	c, err := t.cursor(ctx, k)
	if err != nil {
		return c, err
	}
	names := make([]string, 0, subjects.Lanes)
	for _, l := range t.lanes(k, 0) {
		names = append(names, l.subject)
	}
	found, err := t.lastInbox.Get(ctx, names)
	if err != nil {
		return c, fmt.Errorf("ops: look for the inbox: %w", err)
	}
	for _, s := range found {
		if s != nil {
			return c, nil
		}
	}
	entry, err := t.lastDevice.Get(ctx, []string{layout.DeviceSubject(k)})
	if err != nil {
		return c, fmt.Errorf("ops: look for the device: %w", err)
	}
	if entry[0] == nil || deleted(entry[0].Header) {
		return c, fmt.Errorf("%s: %w", a, ErrUnknownDevice)
	}
	return c, nil
}

// Missed yields what is stored for a device and not acknowledged by its cursor
// now, in the order of storage. A cursor is stored a second or two after
// the acknowledgement. The error wraps [ErrUnknownDevice] when there is
// no such device; after an error nothing follows.
func (t *Tenant) Missed(ctx context.Context, a subjects.Address) iter.Seq2[*Message, error] {
	t = t.of(a.User)
	return func(yield func(*Message, error) bool) {
		lanes, err := t.missed(ctx, a)
		if err != nil {
			yield(nil, err)
			return
		}
		merge(ctx, lanes)(yield)
	}
}

// missed are the lanes of a device without what it acknowledged.
func (t *Tenant) missed(ctx context.Context, a subjects.Address) ([]*lane, error) {
	head, err := t.head(ctx, layout.StreamInbox)
	if err != nil {
		return nil, err
	}
	// The cursor is read after the head: what is acknowledged in between is
	// then left out, instead of told as missed.
	c, err := t.check(ctx, a)
	if err != nil {
		return nil, err
	}
	lanes := t.lanes(a.Key(), head)
	for _, l := range lanes {
		l.skip = func(seq uint64) uint64 { return unacknowledged(&c, l.lane, seq) }
	}
	return lanes, nil
}
