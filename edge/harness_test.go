package edge_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) {
	testkit.AtOnce(6)
	edge.SuspendAfter(suspendAfter)
	natstest.VerifyTestMain(m)
}

// suspendAfter is how long a connection is silent before its read loop ends.
const suspendAfter = 2 * time.Second

// within is how long a test waits for what must happen.
const within = testkit.Patience

var (
	check      = testkit.Check
	eventually = testkit.Eventually
)

// world is an edge on a real server, with all that it needs.
type world struct {
	t    *testing.T
	env  *natstest.Env
	keys *auth.Keystore
	edge *edge.Server
	hub  *inbox.Hub
	pub  *inbox.Publisher
	addr string

	metrics *prometheus.Registry
}

// count is the value of a metric, of all its labels together.
func (w *world) count(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	check(w.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func newWorld(t *testing.T, tune func(*edge.Options)) *world {
	t.Helper()
	return newWorldOf(t, tune, nil)
}

// newWorldOf is newWorld with parts of the tenant exchanged.
func newWorldOf(t *testing.T, tune func(*edge.Options), parts func(*edge.TenantOptions)) *world {
	t.Helper()
	return newWorldOn(t, natstest.Server(t), tune, parts)
}

// newWorldOn is newWorldOf on a server of the test's.
func newWorldOn(t *testing.T, env *natstest.Env, tune func(*edge.Options), parts func(*edge.TenantOptions)) *world {
	t.Helper()
	w := &world{t: t, env: env}
	natstest.Streams(t, w.env.Conn(t))
	var err error
	w.keys, err = auth.OpenKeystore(t.TempDir())
	check(t, err)
	w.start("test", w.env.Dialer(), tune, parts)
	return w
}

// second is another edge on the server of a world. It stores by a connection of its
// own.
func (w *world) second(dial inbox.Dial, tune func(*edge.Options)) *world {
	w.t.Helper()
	other := &world{t: w.t, env: w.env, keys: w.keys}
	other.start("second", dial, tune, nil)
	return other
}

// start has the world's edge serve until the test ends.
func (w *world) start(name string, dial inbox.Dial, tune func(*edge.Options), parts func(*edge.TenantOptions)) {
	w.t.Helper()
	t := w.t
	pub, err := inbox.NewPublisher(dial, nil)
	check(t, err)
	w.pub = pub
	w.hub, err = inbox.New(inbox.Options{Read: w.env.Conn(t), Fetch: w.env.Conn(t), Publish: pub})
	check(t, err)
	check(t, w.hub.Start(t.Context()))
	var tenant *edge.Tenant
	devices, err := roster.New(roster.Options{
		Read: w.env.Conn(t), Edge: &roster.EdgeInfo{Name: name},
		Changed: func(c roster.Change) { tenant.Presence(c) },
		Lost:    func(k subjects.Key, epoch uint64) { tenant.Lost(k, epoch) },
		Put: func(msg *nats.Msg, done func(uint64, error)) {
			pub.Publish(msg, func(r inbox.Receipt, err error) { done(r.Seq, err) })
		},
	})
	check(t, err)
	topics, err := topic.New(topic.Options{Read: w.env.Conn(t), Fetch: w.env.Conn(t)})
	check(t, err)
	check(t, topics.Start(t.Context()))
	of := edge.TenantOptions{Inbox: w.hub, Publisher: pub, Roster: devices, Topics: topics, Core: w.env.Conn(t)}
	if parts != nil {
		parts(&of)
	}
	tenant, err = edge.NewTenant(t.Context(), of)
	check(t, err)
	check(t, devices.Start(t.Context()))
	verifier, err := auth.NewVerifier(w.keys.Account().JWT)
	check(t, err)
	w.metrics = prometheus.NewRegistry()
	opts := edge.Options{
		Verifier: verifier, Tenant: func(string) (*edge.Tenant, bool) { return tenant, true }, Metrics: w.metrics,
		RegisterWithin: within,
	}
	if tune != nil {
		tune(&opts)
	}
	w.edge, err = edge.New(opts)
	check(t, err)
	w.edge.Start()
	stop := w.serve()
	t.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Second)
		defer cancel()
		// A test that broke the server leaves them with errors of their own.
		_ = w.edge.Stop(ctx)
		_ = devices.Stop(ctx)
		tenant.Close()
		_ = topics.Stop(ctx)
		_ = w.hub.Stop(ctx)
		pub.Stop()
	})
}

// serve listens; the function it returns ends that.
func (w *world) serve() (stop func()) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(w.t, err)
	w.addr = l.Addr().String()
	server := &http.Server{Handler: w.edge, ReadHeaderTimeout: within, ConnState: w.edge.Watch}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	return func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			w.t.Error(err)
		}
	}
}

// device is a connection that has had its challenge.
type device struct {
	*devicetest.Device
	t *testing.T
}

func (w *world) dial() *device {
	w.t.Helper()
	return &device{devicetest.Connect(w.t, devicetest.URL(w.addr), devicetest.How{}), w.t}
}

// token is a bearer token for USER/DEVICE.
func (w *world) token(name string) string {
	w.t.Helper()
	return w.tokenFor(name, time.Hour)
}

// tokenFor is a bearer token that ends after some time.
func (w *world) tokenFor(name string, life time.Duration) string {
	w.t.Helper()
	address, err := subjects.ParseAddress(name)
	check(w.t, err)
	cred, err := w.keys.IssueDevice(address, auth.DeviceOptions{Bearer: true, Expires: life})
	check(w.t, err)
	return cred.JWT
}

// register sends the registration and does not wait for the answer.
func (w *world) register(d *device, name string) {
	w.t.Helper()
	d.SendRegister(w.token(name), "")
}

// connect is alice's phone, registered.
func (w *world) connect() *device {
	w.t.Helper()
	d := w.dial()
	d.Register(w.token("alice/phone"), "")
	return d
}

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
