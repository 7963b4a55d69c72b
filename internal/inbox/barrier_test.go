package inbox_test

import (
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// slowHub is a system whose hub hears of messages when the test lets it, and
// takes long to complain.
func slowHub(t *testing.T) (*system, *natstest.Proxy) {
	t.Helper()
	env := natstest.Server(t, natstest.Listen())
	proxy := natstest.NewProxy(t, env.Addr())
	s := newSystemOn(t, env, func(o *inbox.Options) {
		o.Read, o.Heartbeat = natstest.Dial(t, proxy.URL()), 10*time.Second
	})
	return s, proxy
}

// What was stored before a device attached is counted and sent in the order of
// lanes, though the hub has not heard of it yet.
func TestAttachCountsWhatTheHubHasNotReadYet(t *testing.T) {
	t.Parallel()
	s, proxy := slowHub(t)
	s.hub.WaitAtBarrier(waitTimeout) // a busy machine may need more than an edge waits
	s.put(phone, subjects.Low, 0, 1)
	s.caughtUp()
	proxy.Freeze()
	s.put(phone, subjects.Low, 1, 2)
	s.put(phone, subjects.Critical, 3, 2)
	before := s.hub.Head()
	attached := make(chan *device)
	go func() { attached <- s.attachNow(phone, 100) }()
	select {
	case <-attached:
		t.Fatalf("attached while the hub was at %d", before)
	case <-time.After(100 * time.Millisecond): // as long as nothing can come, there is nothing to wait for
	}
	proxy.Heal()
	d := <-attached
	if d.mailbox.Pending() != 5 {
		t.Errorf("%d messages are said to wait, want 5", d.mailbox.Pending())
	}
	expect(t, d.receive(5), "3 4 0 1 2")
}

// A hub that does not get on keeps a device waiting for a moment and no longer,
// and loses nothing.
func TestAttachDoesNotWaitForeverForTheHub(t *testing.T) {
	t.Parallel()
	s, proxy := slowHub(t)
	proxy.Freeze()
	s.put(phone, subjects.Normal, 0, 2)
	s.attachNow(phone, 100)
	// What was waited for once is not waited for again: that would be 40 s in all.
	began := time.Now()
	var d *device
	for range 20 {
		d = s.attachNow(phone, 100)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the next 20 attachments took %s", took)
	}
	proxy.Heal()
	expect(t, d.receive(2), "0 1")
}

// Devices that attach at once are served together, each with all that was
// stored for it before.
func TestManyAttachBehindTheHub(t *testing.T) {
	t.Parallel()
	s, proxy := slowHub(t)
	s.hub.WaitAtBarrier(waitTimeout) // a busy machine may need more than an edge waits
	proxy.Freeze()
	const devices = 50
	keys := make([]subjects.Key, devices)
	for n := range keys {
		keys[n] = subjects.Address{User: "alice", Device: subjects.DeviceID(numbers(n, 1))}.Key()
		s.put(keys[n], subjects.Normal, n, 1)
	}
	var wg sync.WaitGroup
	pending := make([]int, devices)
	for n, k := range keys {
		wg.Go(func() { pending[n] = s.attachNow(k, 10).mailbox.Pending() })
	}
	proxy.Heal()
	wg.Wait()
	for n, count := range pending {
		if count != 1 {
			t.Errorf("device %d: %d messages are said to wait, want 1", n, count)
		}
	}
}
