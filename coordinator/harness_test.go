package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/coordinator"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// patience bounds every wait. It is far above what anything takes, so that a
// busy machine is no failure.
const patience = testkit.Patience

// place is a server with the streams, an edge's roster, and a client.
type place struct {
	t   *testing.T
	env *natstest.Env
	nc  *nats.Conn
	js  jetstream.JetStream
	pub *inbox.Publisher
}

func newPlace(t *testing.T, opts ...natstest.Option) *place {
	t.Helper()
	return newPlaceOn(t, natstest.Server(t, opts...), 1)
}

// newPlaceOn is a place on a server, with so many copies of what is stored.
func newPlaceOn(t *testing.T, env *natstest.Env, replicas int) *place {
	t.Helper()
	p := &place{t: t, env: env}
	p.nc = p.env.Conn(t)
	p.js = natstest.StreamsOn(t, p.nc, replicas)
	pub, err := inbox.NewPublisher(func(opts ...nats.Option) (*nats.Conn, error) { return p.dial("publish", opts...) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.pub = pub
	t.Cleanup(pub.Stop)
	return p
}

// placeWithEdge is a place where one edge serves devices.
func placeWithEdge(t *testing.T) (*place, *roster.Roster) {
	t.Helper()
	p := newPlace(t)
	return p, p.edge("e")
}

// placeWithDevice is a place with a coordinator and a device on plain NATS.
func placeWithDevice(t *testing.T) (*place, *device) {
	t.Helper()
	p := newPlace(t)
	p.coordinate()
	return p, p.device("alice/phone")
}

// purgeBelow removes what the inbox stream has stored below a sequence.
func (p *place) purgeBelow(seq uint64) {
	p.t.Helper()
	stream, err := p.js.Stream(p.ctx(), layout.StreamInbox)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := stream.Purge(p.ctx(), jetstream.WithPurgeSequence(seq)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) dial(name string, opts ...nats.Option) (*nats.Conn, error) {
	return natstest.Connect("", append([]nats.Option{
		nats.InProcessServer(p.env), nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond),
		nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(patience),
	}, opts...)...)
}

// coordinate runs a coordinator until the end of the test or until its stop is
// called.
func (p *place) coordinate() (c *coordinator.Coordinator, stop func()) {
	p.t.Helper()
	return p.coordinateWith(coordinator.Options{})
}

// coordinateTwice runs two coordinators that do the same work, because neither hears
// of the other.
func (p *place) coordinateTwice() (stop func()) {
	p.t.Helper()
	for range 2 {
		c, end := p.coordinate()
		if err := c.WorkAlone(p.ctx()); err != nil {
			p.t.Fatal(err)
		}
		stop = end
	}
	return stop
}

func (p *place) coordinateWith(opts coordinator.Options) (c *coordinator.Coordinator, stop func()) {
	p.t.Helper()
	if opts.Dial == nil {
		opts.Dial = p.dial
	}
	return p.coordinateBeating(opts, time.Second)
}

// coordinateBeating is coordinateWith for one that tells others so often that it is
// there.
func (p *place) coordinateBeating(opts coordinator.Options, every time.Duration) (c *coordinator.Coordinator, stop func()) {
	p.t.Helper()
	opts.Version, opts.Logger = "1.2.3", slog.New(slog.NewTextHandler(p.t.Output(), nil))
	c, err := coordinator.New(opts)
	if err != nil {
		p.t.Fatal(err)
	}
	c.BeatEvery(every)
	if err := c.Start(p.ctx()); err != nil {
		p.t.Fatal(err)
	}
	stop = func() {
		p.t.Helper()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			p.t.Errorf("stop: %v", err)
		}
	}
	p.t.Cleanup(stop)
	return c, stop
}

// fragile runs a coordinator until crash is called: then it is cut off from
// the server at once and for good.
func (p *place) fragile() (c *coordinator.Coordinator, crash func()) {
	p.t.Helper()
	c, _, crash = p.frail()
	return c, crash
}

// frail is fragile, and gives its connections out by name.
func (p *place) frail() (c *coordinator.Coordinator, conn func(name string) *nats.Conn, crash func()) {
	p.t.Helper()
	var mu sync.Mutex
	var conns []*nats.Conn
	dead := false
	c, err := coordinator.New(coordinator.Options{Dial: func(name string, opts ...nats.Option) (*nats.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if dead {
			return nil, errors.New("the process is dead")
		}
		nc, err := p.dial(name, opts...)
		conns = append(conns, nc)
		return nc, err
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	c.BeatEvery(100 * time.Millisecond)
	if err := c.Start(p.ctx()); err != nil {
		p.t.Fatal(err)
	}
	conn = func(name string) *nats.Conn {
		mu.Lock()
		defer mu.Unlock()
		return conns[slices.IndexFunc(conns, func(nc *nats.Conn) bool { return nc.Opts.Name == name })]
	}
	return c, conn, func() {
		mu.Lock()
		dead = true
		for _, nc := range conns {
			nc.Close()
		}
		mu.Unlock()
		ctx, cancel := context.WithTimeout(p.ctx(), 50*time.Millisecond)
		defer cancel()
		_ = c.Stop(ctx) // it cannot end in order
	}
}

func (p *place) ctx() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	p.t.Cleanup(cancel)
	return ctx
}

// edge is a roster that holds devices, as an edge does.
func (p *place) edge(name string) *roster.Roster {
	p.t.Helper()
	r, _ := p.mortalEdge(name)
	return r
}

// mortalEdge is an edge until kill is called: then it stores nothing more.
func (p *place) mortalEdge(name string) (r *roster.Roster, kill func()) {
	p.t.Helper()
	var dead atomic.Bool
	r, err := roster.New(roster.Options{Read: p.env.Conn(p.t), Edge: &roster.EdgeInfo{Name: name}, Put: func(m *nats.Msg, done func(uint64, error)) {
		if dead.Load() {
			done(0, errors.New("the process is dead"))
			return
		}
		p.pub.Publish(m, func(r inbox.Receipt, err error) { done(r.Seq, err) })
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.Start(p.ctx()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
		defer cancel()
		if dead.Load() {
			cancel() // it cannot end in order
		}
		if err := r.Stop(ctx); err != nil && !dead.Load() {
			p.t.Errorf("stop the edge: %v", err)
		}
	})
	return r, func() { dead.Store(true) }
}

func address(s string) subjects.Address {
	a, err := subjects.ParseAddress(s)
	if err != nil {
		return subjects.Address{}
	}
	return a
}

// register makes a device known, as of a type and with capabilities.
func (p *place) register(r *roster.Roster, device, typ string, capabilities ...string) subjects.Key {
	p.t.Helper()
	k := address(device).Key()
	held := map[string]bool{}
	for _, c := range capabilities {
		held[c] = true
	}
	data, err := json.Marshal(held)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Register(k, roster.Record{Type: typ, Capabilities: data})
	p.eventually("the record is stored", func() bool {
		_, err := p.bucket(layout.BucketDevices).Get(p.ctx(), layout.DeviceEntry(k))
		return err == nil
	})
	return k
}

// connect registers a device and opens its session.
func (p *place) connect(r *roster.Roster, device, typ string, capabilities ...string) *roster.Session {
	p.t.Helper()
	k := p.register(r, device, typ, capabilities...)
	s, err := r.Open(p.ctx(), k, roster.SessionOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *place) bucket(name string) jetstream.KeyValue {
	p.t.Helper()
	kv, err := p.js.KeyValue(p.ctx(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	return kv
}

func (p *place) eventually(what string, ok func() bool) {
	p.t.Helper()
	testkit.Eventually(p.t, what, ok)
}

// publish stores a message and returns its sequence.
func (p *place) publish(subject, body string, headers ...string) uint64 {
	p.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header[headers[i]] = []string{headers[i+1]}
	}
	ack, err := p.js.PublishMsg(p.ctx(), m)
	if err != nil {
		p.t.Fatalf("publish %s: %v", subject, err)
	}
	return ack.Sequence
}

// stored are the messages of a stream on a subject, in order.
func (p *place) stored(stream, subject string) []*jetstream.RawStreamMsg {
	p.t.Helper()
	s, err := p.js.Stream(p.ctx(), stream)
	if err != nil {
		p.t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := uint64(1); ; {
		m, err := s.GetMsg(p.ctx(), seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, m)
		seq = m.Sequence + 1
	}
}

// inbox are the bodies of what is stored in the normal lane of a device's inbox.
func (p *place) inbox(device string) []string {
	p.t.Helper()
	return p.lane(device, subjects.Normal)
}

// lane are the bodies of what is stored in a lane of a device's inbox.
func (p *place) lane(device string, lane subjects.Lane) []string {
	p.t.Helper()
	var bodies []string
	for _, m := range p.stored(layout.StreamInbox, subjects.Inbox(address(device).Key(), lane)) {
		bodies = append(bodies, string(m.Data))
	}
	return bodies
}

// routesLeft is how many messages the route stream holds.
func (p *place) routesLeft() uint64 {
	p.t.Helper()
	s, err := p.js.Stream(p.ctx(), layout.StreamRoute)
	if err != nil {
		p.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// ask sends a request and reads the answer into into. It returns the error
// code that was told, or nothing.
func (p *place) ask(endpoint string, request, into any) string {
	p.t.Helper()
	return p.askAt(p.nc, subjects.CoordinatorEndpoint(endpoint), request, into)
}

func (p *place) askAt(nc *nats.Conn, subject string, request, into any) string {
	p.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := nc.RequestWithContext(p.ctx(), subject, body)
	if err != nil {
		p.t.Fatalf("%s: %v", subject, err)
	}
	fits(p.t, subject, body, m.Data, m.Header.Get("Nats-Service-Error") != "")
	if m.Header.Get("Nats-Service-Error") != "" {
		var told struct {
			Code string `json:"code"`
		}
		if err := json.Unmarshal(m.Data, &told); err != nil || m.Header.Get("Nats-Service-Error-Code") == "" {
			p.t.Fatalf("%s: an error without a code: %q %v", subject, m.Data, m.Header)
		}
		return told.Code
	}
	if into != nil {
		if err := json.Unmarshal(m.Data, into); err != nil {
			p.t.Fatalf("%s answered %q: %v", subject, m.Data, err)
		}
	}
	return ""
}

// proof is the tenant's key, as a coordinator has it.
func (p *place) proof() *proof.Key {
	p.t.Helper()
	var k *proof.Key
	p.eventually("the tenant's key is read", func() bool {
		ctx, cancel := context.WithTimeout(p.ctx(), patience/6) // a request is lost with the server that restarts
		defer cancel()
		var err error
		k, err = proof.Load(ctx, p.js)
		return err == nil
	})
	return k
}

// sentBy shows that alice's device sent the message id.
func (p *place) sentBy(device, id string) string {
	p.t.Helper()
	return p.proof().Tag(proof.Sender, "alice", device, id)
}
