package inbox_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// storedCursor is the phone's cursor as the stream has it.
func (s *system) storedCursor() *inbox.Cursor { return s.storedCursorOf(phone) }

func (s *system) storedCursorOf(k subjects.Key) *inbox.Cursor {
	s.t.Helper()
	stream := must(s.js.Stream(s.t.Context(), layout.StreamCursor))
	m, err := stream.GetLastMsgForSubject(s.t.Context(), layout.Cursor(k))
	if err != nil {
		return new(inbox.Cursor)
	}
	c := must(inbox.ParseCursor(m.Data))
	return &c
}

// cutOff is a system whose second hub stores through a proxy, with a device on
// it that was sent two messages and has acknowledged one.
func cutOff(t *testing.T) (s, old *system, d *device, got []envelope.Delivery, proxy *natstest.Proxy) {
	t.Helper()
	env := natstest.Server(t, natstest.Listen())
	proxy = natstest.NewProxy(t, env.Addr())
	s = newSystemOn(t, env, nil)
	s.epoch = 2
	pub := must(inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return natstest.Connect(proxy.URL(), opts...) }, nil))
	t.Cleanup(pub.Stop)
	old = &system{t: t, env: env, nc: s.nc, js: s.js, epoch: 1}
	old.start(func(o *inbox.Options) { o.Publish = pub })
	s.put(phone, subjects.Normal, 0, 2)
	d = old.attach(phone, 10)
	got = d.receive(2)
	d.mailbox.Ack(got[0].Seq)
	s.eventually("the first acknowledgement is stored", func() bool {
		return s.storedCursor().AckFloor(subjects.Normal) == got[0].Seq
	})
	return s, old, d, got, proxy
}

// A device that connects elsewhere while its edge is cut off: what the old edge
// stores when it is back does not move the cursor.
func TestAnEdgeThatWasCutOffDoesNotMoveTheCursorBack(t *testing.T) {
	t.Parallel()
	s, old, stale, got, proxy := cutOff(t)
	proxy.Freeze()
	stale.mailbox.Detach() // its last cursor is on its way, and late
	d := s.attach(phone, 10)
	expect(t, d.receive(1), "1r")
	d.mailbox.Ack(got[1].Seq)
	s.eventually("the acknowledgement is stored", func() bool {
		return s.storedCursor().AckFloor(subjects.Normal) >= got[1].Seq
	})
	proxy.Heal()
	if err := old.hub.Stop(t.Context()); err != nil { // waits for all cursors
		t.Fatal(err)
	}
	if c := s.storedCursor(); c.Epoch != 2 || c.AckFloor(subjects.Normal) < got[1].Seq {
		t.Errorf("the cursor is %+v", c)
	}
	d.mailbox.Detach()
	s.none(s.attach(phone, 10))
}

// However often the older session's cursor changes, it replaces none of the newer
// session: the first attempt tells it only that there is one.
func TestNoLaterCursorOfAnOlderSessionReplacesThatOfANewer(t *testing.T) {
	t.Parallel()
	s, _, stale, _, proxy := cutOff(t)
	attempts := must(s.nc.SubscribeSync(layout.Cursor(phone)))
	proxy.Freeze()
	const n = 100
	s.put(phone, subjects.Normal, 2, n)
	more := stale.receive(9) // the window is full
	d := s.attach(phone, n+10)
	ack(d, d.receive(n+1))
	s.eventually("all is acknowledged", func() bool {
		c := s.storedCursor()
		return c.Epoch == 2 && len(c.Unacked[subjects.Normal]) == 0
	})
	for { // nothing more is stored by the newer one
		if _, err := attempts.NextMsg(time.Second); err != nil {
			break
		}
	}
	proxy.Heal()
	tried := 0
	s.eventually("the older one has tried several times, or once in all", func() bool {
		if _, err := attempts.NextMsg(10 * time.Millisecond); err == nil {
			tried++
		}
		if len(more) > 0 {
			stale.mailbox.Ack(more[0].Seq)
			more = append(more[1:], stale.mailbox.Next(nil, 1, 1<<20)...)
		}
		return tried >= 5 || tried > 0 && len(more) == 0 // it may be late: nothing more is on its way then
	})
	if c := s.storedCursor(); c.Epoch != 2 || tried == 0 {
		t.Errorf("after %d attempts the cursor is %+v", tried, c)
	}
}

// The newer session's cursor stands also when the old one's was stored first.
func TestANewerSessionStoresOverAnOlderOne(t *testing.T) {
	t.Parallel()
	s, old, stale, got, _ := cutOff(t)
	d := s.attach(phone, 10)
	stale.mailbox.Ack(got[1].Seq)
	stale.mailbox.Detach()
	if err := old.hub.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, d.receive(1), "1r")
	s.put(phone, subjects.Normal, 2, 1)
	more := d.receive(1)
	d.mailbox.Ack(more[0].Seq)
	s.eventually("it is stored", func() bool {
		c := s.storedCursor()
		return c.Epoch == 2 && c.Sent[subjects.Normal] >= more[0].Seq
	})
	if c := s.storedCursor(); c.AckFloor(subjects.Normal) != got[1].Seq-1 {
		t.Errorf("the cursor is %+v, and %d is not acknowledged here", c, got[1].Seq)
	}
}

// A purge waits for each edge to confirm it. One that stops confirms what has reached
// it: otherwise the purge would wait in vain, and fail.
func TestAHubThatStopsConfirmsThePurgesThatHaveReachedIt(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	fetch := env.Conn(t)
	s := newSystemOn(t, env, func(o *inbox.Options) { o.Fetch = fetch })
	const n = 2000
	answers := must(s.nc.SubscribeSync(s.nc.NewInbox()))
	free := s.hub.Busy()
	for range n {
		testkit.Check(t, s.nc.PublishRequest(layout.Fence, answers.Subject, []byte(`{}`)))
	}
	testkit.Check(t, s.nc.Flush())
	testkit.Check(t, fetch.Flush()) // they are there
	stopped := make(chan error)
	go func() { stopped <- s.hub.Stop(t.Context()) }()
	free()
	testkit.Check(t, <-stopped)
	testkit.Check(t, fetch.Flush())
	testkit.Check(t, s.nc.Flush())
	if got, _, err := answers.Pending(); err != nil || got != n {
		t.Errorf("%d of %d are answered (%v)", got, n, err)
	}
}
