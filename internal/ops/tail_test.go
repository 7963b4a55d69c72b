package ops_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// watch runs a tail until it has seen n flows, and returns them. act runs when
// it watches.
func (p *place) watch(opts ops.TailOptions, n int, act func()) (flows []*ops.Flow) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), testkit.Patience)
	defer cancel()
	enough := errors.New("enough")
	opts.Started = act
	opts.Each = func(f *ops.Flow) error {
		if flows = append(flows, f); len(flows) == n {
			return enough
		}
		return nil
	}
	if err := p.Tail(ctx, opts); !errors.Is(err, enough) {
		p.t.Fatalf("saw %d of %d: %v", len(flows), n, err)
	}
	return flows
}

func lines(flows []*ops.Flow) (out []string) {
	for _, f := range flows {
		line := fmt.Sprintf("%s %s/%s", f.Kind, f.User, f.Device)
		switch f.Kind {
		case ops.FlowCursor:
			line += fmt.Sprintf(" %s %d/%d %d", f.Lane, f.AckFloor, f.Sent, f.Unacked)
		case ops.FlowEvent:
			line += " " + f.Event
		default:
			line += fmt.Sprintf(" %s %d %s %s %s %d", f.Lane, f.Seq, f.ID, f.Type, f.From, f.Bytes)
		}
		out = append(out, line)
	}
	slices.Sort(out) // kinds have no order among each other
	return out
}

// flowing publishes one of each kind for a device.
func (p *place) flowing(a subjects.Address) {
	p.t.Helper()
	p.store(a, subjects.High, "m", subjects.HeaderFrom, "desktop", subjects.HeaderType, "note")
	p.acknowledge(a, inbox.Cursor{Sent: [4]uint64{0, 0, 9, 4}, Unacked: [4][]uint64{nil, nil, {5, 7}, nil}})
	for _, m := range []*nats.Msg{
		{Subject: subjects.Event(a.Key(), subjects.EventOnline), Data: []byte(`{"kind":"online"}`)},
		{Subject: subjects.Up(a.Key(), "order"), Data: []byte("12"), Header: nats.Header{subjects.HeaderID: {"u"}, subjects.HeaderType: {"order"}}},
	} {
		_, err := p.js.PublishMsg(p.t.Context(), m)
		check(p.t, err)
	}
	check(p.t, p.env.Conn(p.t).PublishMsg(&nats.Msg{Subject: subjects.Signal(a.Key()), Data: []byte("123"), Header: nats.Header{
		subjects.HeaderPriority: {"3"}, subjects.HeaderType: {"typing"}, subjects.HeaderFrom: {"desktop"},
	}}))
}

func TestTailShowsAllThatFlows(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.Critical, "before")
	got := p.watch(ops.TailOptions{}, 6, func() { p.flowing(phone) })
	want := []string{
		"cursor alice/my.phone critical 4/4 0", "cursor alice/my.phone high 4/9 2", "event alice/my.phone online",
		"inbox alice/my.phone high 2 m note desktop 10", "signal alice/my.phone critical 0  typing desktop 3",
		"up alice/my.phone  1 u order my.phone 2",
	}
	if got := lines(got); !slices.Equal(got, want) {
		t.Errorf("saw %q, want %q", got, want)
	}
	for _, f := range got {
		if f.Payload != nil || time.Since(f.At).Abs() > time.Minute {
			t.Errorf("%s at %s with %s", f.Kind, f.At, f.Payload)
		}
	}
}

func TestTailShowsOnlyItsScope(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.acknowledge(phone, inbox.Cursor{Sent: [4]uint64{0, 0, 0, 4}})
	for _, s := range []subjects.Scope{{User: "alice"}, subjects.Scope(phone)} {
		got := p.watch(ops.TailOptions{Scope: s, Payload: true, Kinds: []string{ops.FlowInbox, ops.FlowSignal}}, 2, func() {
			p.flowing(bob)
			p.flowing(phone)
		})
		for _, f := range got {
			if f.User != "alice" || len(f.Payload) == 0 || f.Kind != ops.FlowInbox && f.Kind != ops.FlowSignal {
				t.Errorf("%+v: saw %+v", s, f)
			}
		}
	}
	// Of one device it is known where its cursor was.
	got := p.watch(ops.TailOptions{Scope: subjects.Scope(phone), Kinds: []string{ops.FlowCursor}}, 1, func() {
		p.store(phone, subjects.Normal, "n")
		p.acknowledge(phone, inbox.Cursor{Sent: [4]uint64{12, 12, 9, 12}, Unacked: [4][]uint64{nil, nil, {5, 7}, nil}})
	})
	// It also moved over the lanes low and critical, in which nothing is.
	if got := lines(got); got[0] != "cursor alice/my.phone normal 12/12 0" {
		t.Errorf("saw %q", got)
	}
}

// Who watches slowly misses nothing that is stored, and ends when told.
func TestTailOfAFloodIsWhole(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	got := p.watch(ops.TailOptions{Kinds: []string{ops.FlowInbox}}, 10000, func() { p.fill(10, 1000) })
	for i, f := range got {
		if f.Seq != uint64(i+1) {
			t.Fatalf("flow %d is %d", i, f.Seq)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := p.Tail(ctx, ops.TailOptions{
		Started: func() { p.fill(10, 1000) }, // more than may wait
		Each:    func(*ops.Flow) error { cancel(); return nil },
	})
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// Shards are watched one beside the other: while one is told that it is enough, others
// have something to tell.
func TestTailOfSeveralShardsEndsWhenItIsEnough(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	store := func(i int) {
		k := subjects.Address{User: subjects.UserID(fmt.Sprint("user-", i)), Device: "phone"}.Key()
		_, err := p.js.Publish(t.Context(), shard.At(shard.Of(k.User(), 4), 4).Subject(subjects.Inbox(k, subjects.Normal)), []byte(`1`))
		check(t, err)
	}
	seen, enough := 0, errors.New("enough")
	err := p.Tail(t.Context(), ops.TailOptions{Kinds: []string{ops.FlowInbox}, Started: func() { store(0) }, Each: func(*ops.Flow) error {
		if seen++; seen == 1 {
			for i := range 100 { // of all shards
				store(i)
			}
			return enough
		}
		return nil
	}})
	if !errors.Is(err, enough) || seen != 1 {
		t.Errorf("told of %d messages when one was enough, and ended with %v", seen, err)
	}
}
