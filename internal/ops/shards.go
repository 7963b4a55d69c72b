package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// A tenant with several shards is opened as a Tenant for each, on one connection.
// What is asked about a user goes to that of the user's shard; lists are those of
// all, merged, and come with a [PartialError] if not all shards could be read.

// of returns the part of the tenant that a user's devices are in.
func (t *Tenant) of(user subjects.UserID) *Tenant {
	if len(t.parts) == 0 {
		return t
	}
	return t.parts[shard.OfUser(user, len(t.parts))]
}

// CheckShards returns a [shard.CountError] if the credential is for another number of
// shards than the tenant has.
func (t *Tenant) CheckShards(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	js, err := jetstream.New(t.nc)
	if err != nil {
		return fmt.Errorf("ops: %w", err)
	}
	return shard.Ask(ctx, js, t.shard.Count())
}

// PartialError means that a list lacks what is in some of a tenant's shards, which could
// not be read. The list that comes with it has what is in the others.
type PartialError struct {
	Missing []int // the numbers of these shards
	Of      int   // how many the tenant has
	Err     error // why the first of them could not be read
}

// Error implements error.
func (e *PartialError) Error() string {
	which := "shard"
	if len(e.Missing) > 1 {
		which = "shards"
	}
	return fmt.Sprintf("the list is incomplete: what is in %s %s of %d is missing: %v",
		which, strings.Trim(strings.ReplaceAll(fmt.Sprint(e.Missing), " ", ", "), "[]"), e.Of, e.Err)
}

// Unwrap returns why the first shard could not be read.
func (e *PartialError) Unwrap() error { return e.Err }

// partsAtOnce bounds how many shards are read at a time.
const partsAtOnce = 8

// eachPart calls list for all shards, some at a time, so that one that does not answer
// keeps nobody from the others; and then add with what it gave, in the order of the
// shards. If list fails for some of them, eachPart returns a [PartialError]; if for all,
// what it failed with for the first.
func eachPart[T any](ctx context.Context, t *Tenant, list func(part *Tenant) (T, error), add func(T)) error {
	lists, errs := make([]T, len(t.parts)), make([]error, len(t.parts))
	places := make(chan struct{}, partsAtOnce)
	var wg sync.WaitGroup
	for n, part := range t.parts {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			lists[n], errs[n] = list(part)
		})
	}
	wg.Wait()
	var partial PartialError
	for n, err := range errs {
		if err == nil {
			add(lists[n])
			continue
		}
		partial.Missing, partial.Err = append(partial.Missing, n), cmp.Or(partial.Err, err)
	}
	if ctx.Err() != nil {
		return cmp.Or(partial.Err, ctx.Err())
	}
	switch len(partial.Missing) {
	case 0:
		return nil
	case len(t.parts):
		return partial.Err
	}
	partial.Of = len(t.parts)
	return &partial
}

// page is a part of a list, and whether there is more.
type page[T any] struct {
	list []T
	more bool
}

// devicesOfAll is Devices over all shards.
func (t *Tenant) devicesOfAll(ctx context.Context, q DeviceQuery) (list []*Device, more bool, err error) {
	err = eachPart(ctx, t, func(part *Tenant) (p page[*Device], err error) {
		p.list, p.more, err = part.Devices(ctx, q)
		return p, err
	}, func(p page[*Device]) { list, more = append(list, p.list...), more || p.more })
	slices.SortFunc(list, func(a, b *Device) int { return compareAddress(a.Address(), b.Address()) })
	if q.Limit > 0 && len(list) > q.Limit {
		list, more = list[:q.Limit], true
	}
	return list, more, err
}

// inboxesOfAll is Inboxes over all shards.
func (t *Tenant) inboxesOfAll(ctx context.Context, q InboxQuery) (list []*Inbox, more bool, err error) {
	sum := sumOf(q.Progress)
	err = eachPart(ctx, t, func(part *Tenant) (p page[*Inbox], err error) {
		q := q
		q.Progress = sum()
		p.list, p.more, err = part.Inboxes(ctx, q)
		return p, err
	}, func(p page[*Inbox]) { list, more = append(list, p.list...), more || p.more })
	slices.SortStableFunc(list, func(a, b *Inbox) int {
		first := 0
		switch q.Order {
		case ByStored:
			first = cmp.Compare(b.Stored, a.Stored)
		case ByUnacknowledged:
			first = cmp.Compare(b.Unacknowledged, a.Unacknowledged)
		case ByOldest:
			first = compareOldest(a.Oldest, b.Oldest)
		}
		return cmp.Or(first, compareAddress(a.Address(), b.Address()))
	})
	if q.Limit > 0 && len(list) > q.Limit {
		list, more = list[:q.Limit], true
	}
	return list, more, err
}

// sumOf makes a function for each of some parts of a work, which tell progress together.
func sumOf(progress func(done, all int)) func() func(done, all int) {
	if progress == nil {
		return func() func(done, all int) { return nil }
	}
	var mu sync.Mutex
	var done, all int
	return func() func(int, int) {
		was, known := 0, 0
		return func(now, of int) {
			mu.Lock()
			defer mu.Unlock()
			done, all = done+now-was, all+of-known
			was, known = now, of
			progress(done, all)
		}
	}
}

// unacknowledgedOfAll is Unacknowledged for devices of several shards.
func (t *Tenant) unacknowledgedOfAll(ctx context.Context, devices []*Device) ([]uint64, error) {
	counts := make([]uint64, len(devices))
	own, at := make(map[*Tenant][]*Device), make(map[*Tenant][]int)
	for i, d := range devices {
		part := t.of(subjects.UserID(d.User))
		own[part], at[part] = append(own[part], d), append(at[part], i)
	}
	for part, some := range own {
		of, err := part.Unacknowledged(ctx, some)
		if err != nil {
			return nil, err
		}
		for i, n := range of {
			counts[at[part][i]] = n
		}
	}
	return counts, nil
}

// edgesOfAll is Edges over all shards: an edge has a lease in each that it serves.
func (t *Tenant) edgesOfAll(ctx context.Context) ([]Edge, error) {
	var leases []roster.Edge
	renewed := make(map[string]Edge) // by process
	err := eachPart(ctx, t, func(part *Tenant) ([]Edge, error) { return part.Edges(ctx) }, func(some []Edge) {
		for _, e := range some {
			leases = append(leases, e.Edge)
			if have, ok := renewed[e.Name+e.Process]; !ok || e.Renewed.Before(have.Renewed) {
				renewed[e.Name+e.Process] = e
			}
		}
	})
	merged := roster.MergeEdges(leases)
	edges := make([]Edge, len(merged))
	for i, e := range merged {
		edges[i] = Edge{Edge: e, Renewed: renewed[e.Name+e.Process].Renewed}
	}
	return edges, err
}

// tailOfAll is Tail over all shards. What is the tenant's is watched once.
func (t *Tenant) tailOfAll(ctx context.Context, opts TailOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg, started sync.WaitGroup
	var mu sync.Mutex
	var failed error
	each := opts.Each
	opts.Each = func(f *Flow) error {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil { // otherwise another shard was told that it is enough
			failed = each(f)
		}
		return failed
	}
	told := opts.Started
	for n, part := range t.parts {
		own := opts
		if n > 0 {
			own.Kinds = nil
			for _, kind := range []string{FlowInbox, FlowCursor} {
				if len(opts.Kinds) == 0 || slices.Contains(opts.Kinds, kind) {
					own.Kinds = append(own.Kinds, kind)
				}
			}
			if own.Kinds == nil {
				continue
			}
		}
		started.Add(1)
		begun := sync.OnceFunc(started.Done)
		own.Started = begun
		wg.Go(func() {
			defer begun()
			if err := part.Tail(ctx, own); err != nil {
				mu.Lock()
				failed = cmp.Or(failed, err)
				mu.Unlock()
				cancel(err)
			}
		})
	}
	started.Wait()
	if told != nil && ctx.Err() == nil {
		told()
	}
	wg.Wait()
	return failed
}

// statusOfAll adds what the other shards have to the status of the first.
func (t *Tenant) statusOfAll(ctx context.Context, opts StatusOptions) (*Status, error) {
	s, err := t.parts[0].Status(ctx, opts)
	if err != nil {
		return s, err
	}
	type others struct {
		streams []StreamStatus
		devices int
	}
	rest := &Tenant{parts: t.parts[1:]}
	err = eachPart(ctx, rest, func(part *Tenant) (o others, err error) {
		if o.streams, err = part.streams(ctx, opts.Interval); err == nil {
			o.devices, err = part.registered(ctx)
		}
		return o, err
	}, func(o others) {
		for _, one := range o.streams {
			if !slices.ContainsFunc(s.Streams, func(have StreamStatus) bool { return have.Name == one.Name }) {
				s.Streams = append(s.Streams, one)
			}
		}
		s.Devices += o.devices
	})
	if partial := (*PartialError)(nil); errors.As(err, &partial) {
		return s, partial.Err // a status is whole
	} else if err != nil {
		return s, err
	}
	if s.Edges, err = t.Edges(ctx); err != nil {
		return s, err
	}
	s.Online = 0
	for _, e := range s.Edges {
		s.Online += e.Devices
	}
	s.Behind, err = t.behind(ctx, opts.Behind)
	return s, err
}

// doctorOfAll examines one shard after the other.
func (t *Tenant) doctorOfAll(ctx context.Context, opts DoctorOptions) (all []Finding, err error) {
	opts.edges = t.Edges
	for _, part := range t.parts {
		found, err := part.Doctor(ctx, opts)
		for _, f := range found {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
		if err != nil {
			return all, err
		}
	}
	// A check is well if it is in all shards.
	all = slices.DeleteFunc(all, func(f Finding) bool {
		return f.Level == LevelOK && slices.ContainsFunc(all, func(other Finding) bool { return other.Check == f.Check && other.Level != LevelOK })
	})
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Compare(slices.IndexFunc(all, func(f Finding) bool { return f.Check == a.Check }), slices.IndexFunc(all, func(f Finding) bool { return f.Check == b.Check }))
	})
	return all, nil
}

// laterOfAll and rejectedOfAll are Later and Rejected over all shards.
func (t *Tenant) laterOfAll(ctx context.Context, scope subjects.Scope) (list []*Delayed, err error) {
	err = eachPart(ctx, t, func(part *Tenant) ([]*Delayed, error) { return part.Later(ctx, scope) },
		func(some []*Delayed) { list = append(list, some...) })
	slices.SortStableFunc(list, func(a, b *Delayed) int {
		return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.waiting.Subject, b.waiting.Subject))
	})
	return list, err
}

func (t *Tenant) rejectedOfAll(ctx context.Context, scope subjects.Scope) (list []*RejectedMessage, err error) {
	err = eachPart(ctx, t, func(part *Tenant) ([]*RejectedMessage, error) { return part.rejected(ctx, scope) },
		func(some []*RejectedMessage) { list = append(list, some...) })
	slices.SortStableFunc(list, func(a, b *RejectedMessage) int { return a.message.Stored.Compare(b.message.Stored) })
	return list, err
}
