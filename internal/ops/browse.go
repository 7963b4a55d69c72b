package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// States of the messages of an inbox that can be listed.
const (
	Unacknowledged = "unacknowledged"
	Rejected       = "rejected"
	AllMessages    = "all"
)

// StoredMessage is a message of an inbox with its payload, and whether its
// device has acknowledged it.
type StoredMessage struct {
	Message
	// State is unacknowledged or acknowledged, as far as the cursor tells.
	State string `json:"state"`
	// Payload is what an envelope would hold.
	Payload  json.RawMessage `json:"payload"`
	Encoding string          `json:"encoding,omitempty"`
}

// BrowseQuery says which messages of an inbox to list.
type BrowseQuery struct {
	// State is Unacknowledged or AllMessages.
	State string
	// From is the first sequence of interest.
	From uint64
	// Limit bounds the list; 0: no bound. MaxBytes bounds the payloads of all
	// but the first message; 0: no bound.
	Limit, MaxBytes int
}

// Browse lists messages of an inbox in the order of storage. next is the
// sequence to go on from, 0 at the end. The error wraps [ErrUnknownDevice] when
// there is no such device.
func (t *Tenant) Browse(ctx context.Context, a subjects.Address, q BrowseQuery) (list []*StoredMessage, next uint64, err error) {
	t = t.of(a.User)
	head, err := t.head(ctx, layout.StreamInbox)
	if err != nil {
		return nil, 0, err
	}
	c, err := t.check(ctx, a)
	if err != nil {
		return nil, 0, err
	}
	lanes := t.lanes(a.Key(), head)
	for _, l := range lanes {
		l.next = max(q.From, 1)
		if q.State == Unacknowledged {
			l.skip = func(seq uint64) uint64 { return unacknowledged(&c, l.lane, seq) }
		}
	}
	bytes := 0
	for m, err := range merge(ctx, lanes) {
		if err != nil {
			return nil, 0, err
		}
		bytes += m.Bytes
		if q.Limit > 0 && len(list) == q.Limit || q.MaxBytes > 0 && len(list) > 0 && bytes > q.MaxBytes {
			return list, m.Seq, nil
		}
		s := &StoredMessage{Message: *m, State: "acknowledged"}
		if unacknowledged(&c, m.lane, m.Seq) == m.Seq {
			s.State = Unacknowledged
		}
		s.Payload, s.Encoding = envelope.NestedPayload(m.data)
		s.header, s.data = nil, nil
		list = append(list, s)
	}
	return list, 0, nil
}

// Unacknowledged counts, for each of some devices, the messages that it has not
// acknowledged.
func (t *Tenant) Unacknowledged(ctx context.Context, devices []*Device) ([]uint64, error) {
	if len(t.parts) > 0 {
		return t.unacknowledgedOfAll(ctx, devices)
	}
	list := make([]*Inbox, len(devices))
	for i, d := range devices {
		list[i] = &Inbox{User: d.User, Device: d.Device, key: d.Address().Key()}
	}
	for some := range slices.Chunk(list, direct.LastSubjects/subjects.Lanes) {
		if err := t.findLanes(ctx, some); err != nil {
			return nil, err
		}
	}
	if err := t.measure(ctx, list, nil); err != nil {
		return nil, err
	}
	counts := make([]uint64, len(list))
	for i, in := range list {
		counts[i] = in.Unacknowledged
	}
	return counts, nil
}

// findLanes notes which lanes of some inboxes hold anything: what is not there
// need not be measured.
func (t *Tenant) findLanes(ctx context.Context, list []*Inbox) error {
	names := make([]string, 0, subjects.Lanes*len(list))
	for _, in := range list {
		for l := range subjects.Lane(subjects.Lanes) {
			names = append(names, subjects.Inbox(in.key, l))
		}
	}
	last, err := t.lastInbox.Get(ctx, names)
	if err != nil {
		return fmt.Errorf("ops: look for inboxes: %w", err)
	}
	for i, s := range last {
		if s != nil {
			list[i/subjects.Lanes].counts[i%subjects.Lanes] = 1
		}
	}
	return nil
}

// Room is how many bytes a tenant stores, and how many it may; -1: as many as
// there is room for.
func (t *Tenant) Room(ctx context.Context) (stored uint64, limit int64, err error) {
	store, err := t.store(ctx)
	if err != nil {
		return 0, 0, err
	}
	return store.Used, store.Limit, nil
}
