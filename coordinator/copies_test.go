package coordinator_test

import (
	"fmt"
	"testing"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// Each copy of the inbox stream is damaged in another place, the leader's too. A
// device on plain NATS gets all, be it sent before or not, and senders hear of its
// acknowledgements. Those who sent what is purged hear that.
func TestFetchReadsWhatACopyLacksFromAnother(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t, 3)
	p := newPlaceOn(t, servers[0], len(servers))
	p.coordinate()
	d := p.device("alice/phone")
	const n = 6
	for i := range n {
		p.publish(subjects.Inbox(d.key, subjects.Normal), fmt.Sprintf(`"text-%d"`, i), subjects.HeaderAck, "true")
	}
	c := inbox.Cursor{ // as an edge leaves it, which has sent the first three
		Sent: [subjects.Lanes]uint64{0, 3}, Unacked: [subjects.Lanes][]uint64{{}, {1, 2, 3}}, Waiting: [subjects.Lanes]uint64{0, 3}, UpTo: n,
	}
	p.publish(layout.Cursor(d.key), string(c.Append(nil)))
	watch := address("alice/watch").Key() // of which the first three were sent too
	for i := range n {
		p.publish(subjects.Inbox(watch, subjects.Normal), fmt.Sprintf(`"watch-%d"`, i), subjects.HeaderAck, "true")
	}
	c = inbox.Cursor{
		Sent: [subjects.Lanes]uint64{0, n + 3}, Unacked: [subjects.Lanes][]uint64{{}, {n + 1, n + 2, n + 3}}, Waiting: [subjects.Lanes]uint64{0, 3}, UpTo: 2 * n,
	}
	p.publish(layout.Cursor(watch), string(c.Append(nil)))
	natstest.Spoil(t, p.js, servers, layout.StreamInbox, "text-1", "text-4", "text-2", "watch-1", "watch-4", "watch-2", "watch-5")
	ask := func(endpoint string, request map[string]any, into any) (again bool) { // servers that have just begun again may be away once more
		t.Helper()
		tries := 0
		p.eventually(endpoint+" is answered", func() bool { tries++; return d.ask(endpoint, request, into) == "" })
		return tries > 1
	}
	for _, limit := range []int{2, n} { // a part at first
		var all []got
		again := ask("fetch", map[string]any{"limit": limit}, &all)
		if len(all) != limit {
			t.Fatalf("of %d came %+v", limit, all)
		}
		for i, m := range all {
			if want := fmt.Sprintf(`"text-%d"`, i); string(m.Payload) != want || m.Redelivered != (limit == 2 || i < 3 || again && m.Redelivered) {
				t.Errorf("%d of %d is %+v, want %s", i, limit, m, want)
			}
		}
	}
	ask("ack", map[string]any{"upTo": n}, nil)
	told := func(k subjects.Key, kind string) int {
		return len(p.stored(subjects.StreamEvent, subjects.Event(k, kind)))
	}
	p.eventually("senders hear of all acknowledgements", func() bool { return told(d.key, "delivered") == n }) // a copy may lag
	fetch := direct.New(p.nc)
	testkit.Check(t, fetch.Start())
	t.Cleanup(fetch.Stop)
	purger, err := inbox.NewPurger(p.nc, fetch, p.proof())
	testkit.Check(t, err)
	for range 20 { // the copy that answers differs
		var last [subjects.Lanes]uint64
		p.eventually("it is told what is to be purged", func() bool { last, err = purger.Last(t.Context(), watch, &c); return err == nil })
		if last != [subjects.Lanes]uint64{0, 2 * n} {
			t.Fatalf("%v is to be purged, want all up to %d", last, 2*n)
		}
	}
	_, err = purger.Begin(t.Context(), watch, [subjects.Lanes]uint64{0, 2 * n})
	testkit.Check(t, err)
	p.eventually("senders hear that all were purged", func() bool { return told(watch, "expired") == n })
}
