package ops_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// described are listed inboxes as texts.
func described(list []*ops.Inbox) (out []string) {
	for _, i := range list {
		out = append(out, fmt.Sprintf("%s %d/%d", i.Address(), i.Unacknowledged, i.Stored))
	}
	return out
}

func TestInboxesAreCountedAgainstTheirCursors(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 5 {
		p.store(phone, subjects.Normal, fmt.Sprintf("n%d", i)) // 1, 4, 7, 10, 13
		p.store(phone, subjects.High, fmt.Sprintf("h%d", i))   // 2, 5, 8, 11, 14
		p.store(bob, subjects.Low, fmt.Sprintf("l%d", i))      // 3, 6, 9, 12, 15
	}
	p.store(desktop, subjects.Low, "")
	list := func(q ops.InboxQuery) []string {
		t.Helper()
		got, _, err := p.Inboxes(t.Context(), q)
		check(t, err)
		return described(got)
	}
	want := []string{"alice/desktop 1/1", "alice/my.phone 10/10", "bob/phone 5/5"}
	if got := list(ops.InboxQuery{}); !slices.Equal(got, want) {
		t.Errorf("without cursors %q, want %q", got, want)
	}
	var c inbox.Cursor
	c.Sent[subjects.Normal], c.Unacked[subjects.Normal] = 10, []uint64{4, 10}
	c.Sent[subjects.High] = 14
	p.acknowledge(phone, c)
	p.acknowledge(desktop, inbox.Cursor{Sent: [4]uint64{16}})
	for name, o := range map[string]struct {
		q    ops.InboxQuery
		want []string
	}{
		"all":                 {ops.InboxQuery{}, []string{"alice/desktop 0/1", "alice/my.phone 3/10", "bob/phone 5/5"}},
		"a user":              {ops.InboxQuery{User: "alice"}, []string{"alice/desktop 0/1", "alice/my.phone 3/10"}},
		"no such user":        {ops.InboxQuery{User: "al"}, nil},
		"by unacknowledged":   {ops.InboxQuery{Order: ops.ByUnacknowledged}, []string{"bob/phone 5/5", "alice/my.phone 3/10", "alice/desktop 0/1"}},
		"by stored":           {ops.InboxQuery{Order: ops.ByStored, Limit: 1}, []string{"alice/my.phone 3/10"}},
		"by oldest":           {ops.InboxQuery{Order: ops.ByOldest}, []string{"bob/phone 5/5", "alice/my.phone 3/10", "alice/desktop 0/1"}},
		"only unacknowledged": {ops.InboxQuery{Unacknowledged: true, Limit: 2}, []string{"alice/my.phone 3/10", "bob/phone 5/5"}},
		"after one":           {ops.InboxQuery{After: desktop, Limit: 1}, []string{"alice/my.phone 3/10"}},
		"after one that is not": {
			ops.InboxQuery{After: subjects.Address{User: "alice", Device: "e"}},
			[]string{"alice/my.phone 3/10", "bob/phone 5/5"},
		},
		"after the last": {ops.InboxQuery{After: bob}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := list(o.q); !slices.Equal(got, o.want) {
				t.Errorf("%q, want %q", got, o.want)
			}
		})
	}
	one, err := p.Inbox(t.Context(), phone)
	check(t, err)
	if got := described([]*ops.Inbox{one}); got[0] != "alice/my.phone 3/10" || one.CursorAt == nil || !one.Oldest.Equal(p.storedAt(4)) {
		t.Errorf("shown are %q, oldest %v", got, one.Oldest)
	}
	n := one.Lanes[subjects.Normal]
	if n.Stored != 5 || n.First != 1 || n.Last != 13 || n.AckFloor != 3 || n.Sent != 10 || n.Unacked != 2 || n.Waiting != 1 || n.OldestSeq != 4 {
		t.Errorf("lane normal is %+v", n)
	}
	if h := one.Lanes[subjects.High]; h.Unacked+h.Waiting != 0 || h.AckFloor != 14 || h.Oldest != nil {
		t.Errorf("lane high is %+v", h)
	}
}

// What was sent has more acknowledged messages between those that are not
// than one read brings.
func TestSparseAcknowledgementsAreCounted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(1, 4000)
	var c inbox.Cursor
	c.Sent = [4]uint64{3997, 3998, 3999, 0}
	c.Unacked[0] = []uint64{1, 5, 3001, 3997}
	c.Unacked[1] = []uint64{2}
	p.acknowledge(numbered(0), c)
	i, err := p.Inbox(t.Context(), numbered(0))
	check(t, err)
	if i.Unacknowledged != 4+1+1000 || i.Lanes[0].Unacked != 4 || i.Lanes[0].Waiting != 0 || i.Lanes[1].Unacked != 1 || i.Lanes[3].Waiting != 1000 {
		t.Errorf("counted %+v", i)
	}
}

// Every inbox once, over the pages.
func TestInboxPagesJoin(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fill(150, 1)
	var all []string
	q := ops.InboxQuery{Limit: 40}
	for more := true; more; {
		var page []*ops.Inbox
		var err error
		page, more, err = p.Inboxes(t.Context(), q)
		check(t, err)
		if len(page) > 40 || len(page) == 0 {
			t.Fatalf("a page of %d", len(page))
		}
		all = append(all, described(page)...)
		q.After = page[len(page)-1].Address()
	}
	whole, _, err := p.Inboxes(t.Context(), ops.InboxQuery{})
	check(t, err)
	if len(all) != 150 || !slices.Equal(all, described(whole)) {
		t.Errorf("the pages have %d, the list %d", len(all), len(whole))
	}
}

func TestPurgeRemovesWhatItIsTold(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 4 {
		p.store(phone, subjects.Normal, fmt.Sprintf("n%d", i)) // 1, 3, 5, 7
		p.store(phone, subjects.Low, fmt.Sprintf("l%d", i))
	}
	p.store(bob, subjects.Normal, "b")
	var c inbox.Cursor
	c.Sent[subjects.Normal], c.Unacked[subjects.Normal] = 7, []uint64{5}
	p.acknowledge(phone, c)
	purge := func(opts ops.PurgeOptions, want uint64, left ...string) {
		t.Helper()
		n, err := p.Purge(t.Context(), phone, opts)
		check(t, err)
		if got := p.ids(phone); n != want || !slices.Equal(got, left) {
			t.Errorf("%+v removed %d and left %q, want %d and %q", opts, n, got, want, left)
		}
	}
	purge(ops.PurgeOptions{Acknowledged: true}, 2, "low l0", "low l1", "normal n2", "low l2", "normal n3", "low l3")
	purge(ops.PurgeOptions{Lanes: []subjects.Lane{subjects.Low}}, 4, "normal n2", "normal n3")
	purge(ops.PurgeOptions{}, 2)
	if got := p.missed(bob); len(got) != 1 {
		t.Errorf("of another device %q are left", got)
	}
}

// An edge that was not reached may still have in memory what was purged. Purging again
// has it drop that, although nothing is stored any more.
func TestPurgingAgainAsksAnEdgeThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.High, "one")
	last := p.store(phone, subjects.Normal, "two")
	p.lease(roster.Edge{ID: "e1", Name: "edge-1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	nc := p.env.Conn(t)
	silent, err := nc.Subscribe(layout.Fence, func(*nats.Msg) { cancel() })
	check(t, err)
	check(t, nc.Flush())
	n, err := p.Purge(ctx, phone, ops.PurgeOptions{Lanes: []subjects.Lane{subjects.Normal}})
	if n != 1 || err == nil || !strings.Contains(err.Error(), "purge again") || !strings.Contains(err.Error(), "no answer from edge-1") {
		t.Fatalf("%d were purged, %v", n, err)
	}
	check(t, silent.Unsubscribe())
	told := make(chan string, 10)
	_, err = nc.Subscribe(layout.Fence, func(m *nats.Msg) {
		told <- string(m.Data)
		_ = m.Respond([]byte("edge-1"))
	})
	check(t, err)
	check(t, nc.Flush())
	n, err = p.Purge(t.Context(), phone, ops.PurgeOptions{Lanes: []subjects.Lane{subjects.Normal}})
	if want := fmt.Sprintf(`"upTo":[0,%d,0,0]`, last); n != 0 || err != nil || !strings.Contains(<-told, want) {
		t.Errorf("again: %d were purged, %v; the edge was not told %s", n, err, want)
	}
}

// What was delayed and has been taken in is purged for good: a server that starts
// soon after, and finds no such message in the inboxes, does not take it in again.
func TestPurgedDelayedMessagesDoNotComeAgainAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	delay := func(to subjects.Address, id string) {
		t.Helper()
		_, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Later(to.Key(), subjects.Normal, id), Data: []byte("1"), Header: nats.Header{
			subjects.HeaderID: {id}, "Nats-Schedule": {"@at " + time.Now().Add(time.Second).UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {layout.Due(to.Key(), subjects.Normal)},
		}})
		check(t, err)
		testkit.Eventually(t, id+" is due", func() bool { return slices.Contains(p.ids(to), "normal "+id) })
	}
	p.store(bob, subjects.Normal, "there")
	delay(phone, "first")
	n, err := p.Purge(t.Context(), phone, ops.PurgeOptions{})
	check(t, err)
	if n != 1 {
		t.Fatalf("%d messages were purged", n)
	}
	p.env.Kill()
	p.env.Start()
	delay(bob, "second") // what is due is taken in order
	if got := p.ids(phone); len(got) != 0 {
		t.Errorf("%q came again", got)
	}
}
