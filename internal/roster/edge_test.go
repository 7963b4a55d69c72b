package roster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// site is a server with the buckets of a tenant, on which edges run. Edges
// reach it over TCP, each by a proxy of its own.
type site struct {
	t     *testing.T
	env   *natstest.Env
	js    jetstream.JetStream
	lease time.Duration
	// timeout of sessions; zero is the default.
	timeout time.Duration
	unready func() string // of the edges that are started
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, env: natstest.Server(t, natstest.Listen()), lease: time.Hour}
	s.js = natstest.Streams(t, s.env.Conn(t))
	return s
}

// part is a roster with its own connections, and what it was told.
type part struct {
	*roster.Roster
	t     *testing.T
	proxy *natstest.Proxy
	pub   *inbox.Publisher
	read  *nats.Conn
	dead  atomic.Bool
	ended sync.Once
	hold  atomic.Pointer[hold] // of the next that is stored
	twice atomic.Bool          // sessions are sent again before they are answered
	died  chan struct{}        // capacity 1

	mu       sync.Mutex
	told     map[subjects.Key][]string // statuses, in the order told
	arrivals map[subjects.Key]int
	lost     []uint64 // epochs
}

// start starts a roster; edge is its name, empty for one that only follows.
func (s *site) start(edge string) *part {
	s.t.Helper()
	p := &part{
		t: s.t, proxy: natstest.NewProxy(s.t, s.env.Addr()), told: make(map[subjects.Key][]string), arrivals: make(map[subjects.Key]int), died: make(chan struct{}, 1),
	}
	var err error
	p.pub, err = inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) {
		if p.dead.Load() {
			return nil, errors.New("the process was killed")
		}
		return natstest.Connect(p.proxy.URL(), opts...)
	}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	p.read = natstest.Dial(s.t, p.proxy.URL())
	opts := roster.Options{
		Read: p.read, Lease: s.lease, SessionTimeout: s.timeout, Put: p.put,
		Changed: p.changed, Lost: p.losing,
		Died: func() {
			select {
			case p.died <- struct{}{}:
			default:
			}
		},
	}
	if edge != "" {
		opts.Edge = &roster.EdgeInfo{Name: edge, Unready: s.unready}
	}
	if p.Roster, err = roster.New(opts); err != nil {
		s.t.Fatal(err)
	}
	if err := p.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.end)
	return p
}

func (p *part) put(msg *nats.Msg, done func(uint64, error)) {
	_, session := layout.ParseSessionSubject(msg.Subject)
	if session {
		if hold := p.hold.Swap(nil); hold != nil {
			close(hold.asked)
			<-hold.release
		}
	}
	if session && p.twice.Load() {
		first := &nats.Msg{Subject: msg.Subject, Header: msg.Header, Data: msg.Data}
		p.pub.Publish(first, func(inbox.Receipt, error) {})
	}
	p.pub.Publish(msg, func(r inbox.Receipt, err error) { done(r.Seq, err) })
}

// hold keeps a message from being stored for a while.
type hold struct{ asked, release chan struct{} }

// holdSessions holds the next session that is to be stored. asked is closed
// when there is one.
func (p *part) holdSessions() (asked <-chan struct{}, release func()) {
	h := &hold{make(chan struct{}), make(chan struct{})}
	p.hold.Store(h)
	return h.asked, func() { close(h.release) }
}

func (p *part) changed(c roster.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Came {
		p.arrivals[c.Key]++
	}
	if !c.Unseen {
		p.told[c.Key] = append(p.told[c.Key], c.Status)
	}
}

// came is how often a device was told to have come.
func (p *part) came(k subjects.Key) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrivals[k]
}

func (p *part) losing(_ subjects.Key, epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = append(p.lost, epoch)
}

func (p *part) heard(k subjects.Key) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told[k])
}

func (p *part) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lost)
}

// kill ends the process that the part is in the place of: it says no more.
func (p *part) kill() {
	p.dead.Store(true)
	p.proxy.Cut()
	p.read.Close()
}

func (p *part) end() { p.ended.Do(p.stop) }

func (p *part) stop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), testkit.Patience)
	defer cancel()
	if p.dead.Load() {
		cancel()
		p.pub.Stop()
		_ = p.Stop(ctx)
		return
	}
	if err := p.Stop(ctx); err != nil {
		p.t.Errorf("stop: %v", err)
	}
	p.pub.Stop()
}

// connect registers a device and opens its session, as an edge does.
func (p *part) connect(k subjects.Key) *roster.Session {
	p.t.Helper()
	s, err := p.Open(p.t.Context(), k, roster.SessionOptions{Record: &roster.Record{Type: "desktop"}})
	if err != nil {
		p.t.Fatalf("open %s: %v", k, err)
	}
	return s
}

// do runs something with a callback and waits for it.
func do(t *testing.T, f func(done func(error))) {
	t.Helper()
	done := make(chan error, 1)
	f(func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("not answered")
	}
}

func (p *part) status(k subjects.Key) string {
	d, ok := p.Device(k)
	if !ok {
		return "unknown"
	}
	return d.Status
}

// sees waits until all parts see a status.
func sees(t *testing.T, k subjects.Key, status string, parts ...*part) {
	t.Helper()
	for n, p := range parts {
		testkit.Eventually(t, fmt.Sprintf("part %d sees %s as %s", n, k, status), func() bool { return p.status(k) == status })
	}
}

// told checks what a part has been told of a device so far.
func (p *part) wasTold(k subjects.Key, want ...string) {
	p.t.Helper()
	testkit.Eventually(p.t, fmt.Sprintf("%s is told as %q", k, want), func() bool { return len(p.heard(k)) >= len(want) })
	if got := p.heard(k); !slices.Equal(got, want) {
		p.t.Errorf("told %q of %s, want %q", got, k, want)
	}
}

// entry is what is stored of a device's session.
func (s *site) entry(k subjects.Key) map[string]any {
	s.t.Helper()
	kv, err := s.js.KeyValue(s.t.Context(), layout.BucketSessions)
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := kv.Get(s.t.Context(), layout.DeviceEntry(k))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		s.t.Fatal(err)
	}
	return v
}

// events are the kinds of the events stored of a device, in order.
func (s *site) events(k subjects.Key) []string {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), subjects.StreamEvent)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := stream.Info(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := k.Address()
	if err != nil {
		s.t.Fatal(err)
	}
	var kinds []string
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(s.t.Context(), seq)
		if err != nil {
			s.t.Fatal(err)
		}
		var e struct{ Kind, User, Device, At string }
		if err := json.Unmarshal(m.Data, &e); err != nil {
			s.t.Fatal(err)
		}
		if _, err := time.Parse(time.RFC3339, e.At); err != nil || m.Subject != subjects.Event(k, e.Kind) {
			continue
		}
		if e.User == string(a.User) && e.Device == string(a.Device) {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func offline(k subjects.Key, parts ...*part) func() bool {
	return func() bool {
		return !slices.ContainsFunc(parts, func(p *part) bool { return p.status(k) != wire.Offline })
	}
}
