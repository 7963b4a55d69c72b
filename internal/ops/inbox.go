package ops

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Inbox is what one device has stored and has yet to acknowledge.
type Inbox struct {
	User   string `json:"user"`
	Device string `json:"device"`
	// Stored counts all messages that are kept, acknowledged ones included.
	Stored uint64 `json:"stored"`
	// Unacknowledged counts what the cursor does not say is acknowledged.
	Unacknowledged uint64 `json:"unacknowledged"`
	// Oldest is when the first unacknowledged message was stored.
	Oldest *time.Time `json:"oldest,omitempty"`
	// CursorAt is when the device's cursor last moved; nil: never.
	CursorAt *time.Time  `json:"cursorAt,omitempty"`
	Lanes    []LaneState `json:"lanes,omitempty"`

	key    subjects.Key
	counts [subjects.Lanes]uint64
	cursor inbox.Cursor
}

// Address is the device's.
func (i *Inbox) Address() subjects.Address {
	return subjects.Address{User: subjects.UserID(i.User), Device: subjects.DeviceID(i.Device)}
}

// LaneState is one lane of an inbox.
type LaneState struct {
	Lane   string `json:"lane"`
	Stored uint64 `json:"stored"`
	// First and Last are sequences; 0: the lane is empty.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// AckFloor is the sequence up to which all is acknowledged, Sent the one up
	// to which all was sent.
	AckFloor uint64 `json:"settled"`
	Sent     uint64 `json:"sent"`
	// Unacked was sent and is not acknowledged, Waiting was not sent.
	Unacked uint64 `json:"owed"`
	Waiting uint64 `json:"waiting"`
	// Oldest is when the first unacknowledged message was stored, and
	// OldestSeq its sequence.
	Oldest    *time.Time `json:"oldest,omitempty"`
	OldestSeq uint64     `json:"oldestSeq,omitempty"`
}

// Orders of [InboxQuery].
const (
	ByName           = "name"
	ByStored         = "stored"
	ByUnacknowledged = "unacknowledged"
	ByOldest         = "oldest"
)

// InboxOrders are the orders in which inboxes can be listed.
func InboxOrders() []string { return []string{ByName, ByStored, ByUnacknowledged, ByOldest} }

// InboxQuery says which inboxes to list.
type InboxQuery struct {
	// User narrows the list to the devices of one user; empty: all.
	User subjects.UserID
	// Order; empty is [ByName]. All but names come with the largest, or the
	// longest waiting, first. Those by what is unacknowledged ask for every
	// inbox, some 50 microseconds each.
	Order string
	// Unacknowledged leaves out inboxes in which all is acknowledged.
	Unacknowledged bool
	// After, in the order by name, goes on behind this device.
	After subjects.Address
	// Limit bounds the list; 0: no bound.
	Limit int
	// Progress, if set, is told how many inboxes of how many were looked at.
	Progress func(done, all int)
}

// all reports whether every inbox has to be looked at before the list is known.
func (q *InboxQuery) all() bool {
	return q.Order == ByUnacknowledged || q.Order == ByOldest
}

// Inboxes lists inboxes that hold messages. more reports whether there are others
// behind those that were returned.
func (t *Tenant) Inboxes(ctx context.Context, q InboxQuery) (list []*Inbox, more bool, err error) {
	if len(t.parts) > 0 && q.User == "" {
		return t.inboxesOfAll(ctx, q)
	}
	t = t.of(q.User)
	list, err = t.stored(ctx, q.User)
	if err != nil {
		return nil, false, err
	}
	switch {
	case q.all():
		if err := t.measure(ctx, list, q.Progress); err != nil {
			return nil, false, err
		}
	case q.Order == ByStored:
		slices.SortStableFunc(list, func(a, b *Inbox) int { return cmp.Compare(b.Stored, a.Stored) })
	case q.After != (subjects.Address{}):
		i, found := slices.BinarySearchFunc(list, q.After, func(i *Inbox, a subjects.Address) int { return compareAddress(i.Address(), a) })
		if found {
			i++
		}
		list = list[i:]
	}
	switch q.Order {
	case ByUnacknowledged:
		slices.SortStableFunc(list, func(a, b *Inbox) int { return cmp.Compare(b.Unacknowledged, a.Unacknowledged) })
	case ByOldest:
		slices.SortStableFunc(list, func(a, b *Inbox) int { return compareOldest(a.Oldest, b.Oldest) })
	}
	return t.page(ctx, list, &q)
}

// page looks at inboxes until there are enough for the list.
func (t *Tenant) page(ctx context.Context, list []*Inbox, q *InboxQuery) ([]*Inbox, bool, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = len(list)
	}
	var page []*Inbox
	for len(list) > 0 && len(page) <= limit {
		n := min(len(list), max(limit+1-len(page), workers))
		part := list[:n]
		list = list[n:]
		if !q.all() {
			if err := t.measure(ctx, part, q.Progress); err != nil {
				return nil, false, err
			}
		}
		for _, i := range part {
			if i.Unacknowledged > 0 || !q.Unacknowledged {
				page = append(page, i)
			}
		}
	}
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}

func compareAddress(a, b subjects.Address) int {
	return cmp.Or(strings.Compare(string(a.User), string(b.User)), strings.Compare(string(a.Device), string(b.Device)))
}

// compareOldest puts the earliest first, and none last.
func compareOldest(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// stored lists inboxes by name, with what they hold and nothing else. It asks
// for each lane alone: the server sorts all subjects again for each part of an
// answer that is too long for one.
func (t *Tenant) stored(ctx context.Context, user subjects.UserID) ([]*Inbox, error) {
	var lanes [subjects.Lanes]map[string]uint64
	err := forEach(ctx, subjects.Lanes, nil, func(ctx context.Context, l int) (err error) {
		lanes[l], err = t.counts(ctx, layout.StreamInbox, subjects.Scope{User: user}.Lane(subjects.Lane(l))) //nolint:gosec // one of four
		return err
	})
	if err != nil {
		return nil, err
	}
	byKey := make(map[subjects.Key]*Inbox)
	for _, counts := range lanes {
		for subject, n := range counts {
			k, l, ok := subjects.ParseInbox(subject)
			if !ok {
				continue
			}
			i := byKey[k]
			if i == nil {
				a, err := k.Address()
				if err != nil {
					continue // a service's slip: no device has this name
				}
				i = &Inbox{User: string(a.User), Device: string(a.Device), key: k}
				byKey[k] = i
			}
			i.counts[l] = n
			i.Stored += n
		}
	}
	list := make([]*Inbox, 0, len(byKey))
	for _, i := range byKey {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *Inbox) int { return compareAddress(a.Address(), b.Address()) })
	return list, nil
}

// measure finds out what is unacknowledged.
func (t *Tenant) measure(ctx context.Context, list []*Inbox, progress func(done, all int)) error {
	return forEach(ctx, len(list), progress, func(ctx context.Context, n int) error {
		i := list[n]
		if err := t.loadCursor(ctx, i); err != nil {
			return err
		}
		for l := range subjects.Lane(subjects.Lanes) {
			if i.counts[l] == 0 {
				continue
			}
			state := LaneState{Stored: i.counts[l], Sent: i.cursor.Sent[l], AckFloor: i.cursor.AckFloor(l)}
			if err := t.measureLane(ctx, i, l, &state); err != nil {
				return err
			}
			i.Unacknowledged += state.Unacked + state.Waiting
			if compareOldest(state.Oldest, i.Oldest) < 0 {
				i.Oldest = state.Oldest
			}
		}
		return nil
	})
}

// loadCursor reads the inbox's cursor. One that cannot be read counts as none,
// as it does for the edge.
func (t *Tenant) loadCursor(ctx context.Context, i *Inbox) error {
	found, err := t.lastCursor.Get(ctx, []string{layout.Cursor(i.key)})
	if err != nil {
		return fmt.Errorf("ops: read the cursor: %w", err)
	}
	if found[0] == nil {
		return nil
	}
	at := time.Unix(0, found[0].Time).UTC()
	i.CursorAt = &at
	if c, err := inbox.ParseCursor(found[0].Data); err == nil {
		i.cursor = c
	}
	return nil
}

// measureLane fills what of a lane is unacknowledged, at the cost of one
// request when all or nothing of it was sent.
func (t *Tenant) measureLane(ctx context.Context, i *Inbox, l subjects.Lane, s *LaneState) error {
	subject := subjects.Inbox(i.key, l)
	unacked := i.cursor.Unacked[l]
	first, left, err := t.direct.Next(ctx, layout.StreamInbox, subject, s.AckFloor+1, 1+len(unacked), readBytes)
	if err != nil || len(first) == 0 {
		return err
	}
	for n := range first {
		seq := first[n].Seq
		if unacknowledged(&i.cursor, l, seq) != seq {
			continue
		}
		if s.OldestSeq == 0 {
			at := time.Unix(0, first[n].Time).UTC()
			s.Oldest, s.OldestSeq = &at, seq
		}
		if seq <= s.Sent {
			s.Unacked++
		} else {
			s.Waiting++
		}
	}
	if left == 0 {
		return nil
	}
	last := first[len(first)-1].Seq
	if last > s.Sent {
		s.Waiting += uint64(left) //nolint:gosec // how many are left is not negative
		return nil
	}
	return t.measureSparse(ctx, i, l, s, last)
}

// measureSparse goes on behind last where what was sent has many acknowledged
// messages between those that are not.
func (t *Tenant) measureSparse(ctx context.Context, i *Inbox, l subjects.Lane, s *LaneState, last uint64) error {
	r := &lane{t: t, subject: subjects.Inbox(i.key, l), lane: l, next: last + 1, upTo: s.Sent}
	r.skip = func(seq uint64) uint64 { return unacknowledged(&i.cursor, l, seq) }
	for {
		m, err := r.peek(ctx)
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		if r.pop(); s.OldestSeq == 0 {
			at := time.Unix(0, m.Time).UTC()
			s.Oldest, s.OldestSeq = &at, m.Seq
		}
		s.Unacked++
	}
	rest, left, err := t.direct.Next(ctx, layout.StreamInbox, r.subject, s.Sent+1, 1, readBytes)
	if err != nil || len(rest) == 0 {
		return err
	}
	s.Waiting += 1 + uint64(left) //nolint:gosec // how many are left is not negative
	if s.OldestSeq == 0 {
		at := time.Unix(0, rest[0].Time).UTC()
		s.Oldest, s.OldestSeq = &at, rest[0].Seq
	}
	return nil
}

// Inbox is one inbox with its lanes.
func (t *Tenant) Inbox(ctx context.Context, a subjects.Address) (*Inbox, error) {
	t = t.of(a.User)
	k := a.Key()
	if _, err := t.info(ctx, layout.StreamInbox); err != nil {
		return nil, err
	}
	if _, err := t.check(ctx, a); err != nil {
		return nil, err
	}
	i := &Inbox{User: string(a.User), Device: string(a.Device), key: k}
	if err := t.loadCursor(ctx, i); err != nil {
		return nil, err
	}
	counts, err := t.counts(ctx, layout.StreamInbox, subjects.Scope(a).Inboxes())
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, subjects.Lanes)
	for l := range subjects.Lane(subjects.Lanes) {
		names = append(names, subjects.Inbox(k, l))
	}
	last, err := t.lastInbox.Get(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("ops: read the inbox: %w", err)
	}
	for l := range subjects.Lane(subjects.Lanes) {
		s := LaneState{Lane: l.String(), Stored: counts[names[l]], Sent: i.cursor.Sent[l], AckFloor: i.cursor.AckFloor(l)}
		if last[l] != nil {
			s.Last = last[l].Seq
			if err := t.first(ctx, names[l], &s); err != nil {
				return nil, err
			}
			if err := t.measureLane(ctx, i, l, &s); err != nil {
				return nil, err
			}
		}
		i.Stored += s.Stored
		i.Unacknowledged += s.Unacked + s.Waiting
		if compareOldest(s.Oldest, i.Oldest) < 0 {
			i.Oldest = s.Oldest
		}
		i.Lanes = append(i.Lanes, s)
	}
	return i, nil
}

func (t *Tenant) first(ctx context.Context, subject string, s *LaneState) error {
	msgs, _, err := t.direct.Next(ctx, layout.StreamInbox, subject, 1, 1, readBytes)
	if err == nil && len(msgs) > 0 {
		s.First = msgs[0].Seq
	}
	return err
}

// CheckOrder reports whether inboxes can be listed in an order.
func CheckOrder(order string) error {
	if slices.Contains(InboxOrders(), order) {
		return nil
	}
	return fmt.Errorf("unknown order: want %s", strings.Join(InboxOrders(), ", "))
}
