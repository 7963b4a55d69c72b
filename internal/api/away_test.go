package api_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/api"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// apart is the API over NATS servers that can go away.
func apart(t *testing.T) (*natstest.Env, *httptest.Server) {
	t.Helper()
	env := natstest.Server(t)
	js := natstest.Streams(t, env.Conn(t))
	pub, err := inbox.NewPublisher(env.Dialer(), nil)
	testkit.Check(t, err)
	t.Cleanup(pub.Stop)
	hub, err := inbox.New(inbox.Options{Read: env.Conn(t), Fetch: env.Conn(t), Publish: pub, MaxUnacked: 1000})
	testkit.Check(t, err)
	testkit.Check(t, hub.Start(t.Context()))
	t.Cleanup(func() { _ = hub.Stop(context.WithoutCancel(t.Context())) })
	devices, err := roster.New(roster.Options{Read: env.Conn(t), Edge: &roster.EdgeInfo{Name: "test"}, Put: func(m *nats.Msg, done func(uint64, error)) {
		pub.Publish(m, func(r inbox.Receipt, err error) { done(r.Seq, err) })
	}})
	testkit.Check(t, err)
	testkit.Check(t, devices.Start(t.Context()))
	t.Cleanup(func() { _ = devices.Stop(context.WithoutCancel(t.Context())) })
	tasks, err := js.KeyValue(t.Context(), layout.BucketTasks)
	testkit.Check(t, err)
	intake, err := send.New(send.Options{Roster: devices, Inbox: hub, Publisher: pub, Core: env.Conn(t), JetStream: js, Tasks: send.Tasks{KV: tasks}})
	testkit.Check(t, err)
	done, err := ops.Open(ops.Options{Dial: env.Dialer()})
	testkit.Check(t, err)
	t.Cleanup(done.Close)
	tenant := &api.Tenant{
		Name: "default", Ops: done, Roster: devices, Core: env.Conn(t), Intake: intake,
		Codes: func(context.Context, enroll.Code) (*enroll.Code, error) { return nil, nats.ErrConnectionClosed },
		Issue: func(subjects.Address, auth.DeviceOptions) (string, error) { return "", nats.ErrConnectionClosed },
	}
	a, err := api.New(api.Options{Tenant: func(name string) (*api.Tenant, bool) { return tenant, name == "default" }, Loopback: true})
	testkit.Check(t, err)
	t.Cleanup(a.Stop)
	server := httptest.NewServer(a.Admin())
	t.Cleanup(server.Close)
	return env, server
}

func TestEveryRowIsUnavailableWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	env, server := apart(t)
	p := &place{t: t, base: server.URL, http: server.Client()}
	if got := p.get("/v1/users"); got.status != 200 {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	env.Stop()
	p.eventually("NATS is missed", func() bool { return p.get("/v1/users").status == 503 })
	var asking sync.WaitGroup
	for _, r := range rows {
		if strings.HasPrefix(r.path, "/v1/session") {
			continue // it needs no NATS
		}
		asking.Go(func() {
			got := p.do(r.method, fill(r.path, nil), r.body, nil)
			refused(t, r.method+" "+r.path, got, 503)
			if got.code() != "UNAVAILABLE" {
				t.Errorf("%s %s: %s", r.method, r.path, got.body)
			}
		})
	}
	asking.Wait()
	env.Start()
	p.eventually("NATS is back", func() bool { return p.get("/v1/users").status == 200 })
}
