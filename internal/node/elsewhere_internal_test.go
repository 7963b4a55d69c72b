package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestWhichShardsAnEdgeServes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		named  string
		count  int
		own    []int  // of the first tenant; nil: refused
		others []int  // of the others; nil: refused
		why    string // part of the reason
	}{
		{"", 3, []int{0, 1, 2}, []int{0, 1, 2}, ""},
		{"", 1, []int{0}, []int{0}, ""},
		{"0", 1, []int{0}, []int{0}, ""},
		{"1-2,0,1", 3, []int{1, 2, 0}, []int{1, 2, 0}, ""},
		{"2-5", 4, nil, []int{2, 3}, "from 0 to 3"},
		{"4-7", 4, nil, []int{0, 1, 2, 3}, "from 0 to 3"},
		{"0-3", 1, nil, []int{0}, "leave --shards out"},
		{"4", 1, nil, []int{0}, "leave --shards out"},
		{"2-1", 4, nil, nil, ""},
		{"64", 64, nil, nil, "from 0 to 63"},
		{"0,", 4, nil, nil, ""},
		{"0, 1", 4, nil, nil, ""},
		{"-1", 4, nil, nil, ""},
		{"1-", 4, nil, nil, ""},
		{"0-99999999999999999999", 4, nil, nil, ""},
	} {
		own, err := shardSet(c.named).in(c.count)
		if !slices.Equal(own, c.own) || (err == nil) != (c.own != nil) || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q of %d: %v, %v", c.named, c.count, own, err)
		}
		others, err := shardSet(c.named).within(c.count)
		if !slices.Equal(others, c.others) || (err == nil) != (c.others != nil) {
			t.Errorf("%q of %d, of another tenant: %v, %v", c.named, c.count, others, err)
		}
		if err := CheckShards(c.named); (err == nil) != (c.others != nil) {
			t.Errorf("%q: %v", c.named, err)
		}
	}
}

// Clients make addresses of them, and some end for good where they cannot.
func TestOnlyAnAddressIsAdvertised(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "ws://edge-1", "wss://edge-1.example.com", "wss://[::1]:8443/v1/ws?a=b", "WSS://edge-1:1/"} {
		if err := CheckAdvertised(url); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, url := range []string{
		"edge-1", "https://edge-1", "wss:edge-1", "wss://", "wss:///v1/ws", "wss://:443", "wss://edge-1:0", "wss://edge-1:65536",
		"wss://edge-1/#", "wss://edge-1/#x", "wss://user:secret@edge-1", "wss://<HOST>", "wss://" + strings.Repeat("x", maxAdvertised),
	} {
		if CheckAdvertised(url) == nil {
			t.Errorf("%q is taken", url)
		}
	}
}

// A shard with many devices takes longer to read than a registration may wait. If each
// try began anew, no device of it could ever connect.
func TestAShardIsTakenUpThoughNoRegistrationWaitsForIt(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	natstest.StreamsOfShards(t, env.Conn(t), 2)
	p, err := newEdge(edgeOptions{
		edge: roster.EdgeInfo{Name: "low"}, inboxLimit: 100, missing: new(unserved), shares: share.NewMetrics(prometheus.NewRegistry()),
		registry: prometheus.NewRegistry(), logger: slog.New(slog.DiscardHandler),
	})
	testkit.Check(t, err)
	t.Cleanup(func() { testkit.Check(t, p.stop(context.WithoutCancel(t.Context()))) })
	const account = "A"
	testkit.Check(t, p.serve(testkit.Soon(t), edgeTenantOptions{
		name: "default", account: account, count: 2, drains: true, serves: "0",
		dial: func(_ string, opts ...nats.Option) (*nats.Conn, error) { return env.Dialer()(opts...) },
	}))
	tenant := p.tenants[account]
	phone := keyOf(t, 1, 2)
	testkit.Check(t, tenant.told.tell(phone)) // it comes back
	gaveUp, cancel := context.WithCancel(t.Context())
	cancel()
	testkit.Eventually(t, "the shard is served", func() bool {
		_, err := p.elsewhere(gaveUp, account, phone)
		return err == nil
	})
	if tenant.of(phone.User()) == nil {
		t.Error("it is not")
	}
	testkit.Check(t, tenant.stop(testkit.Soon(t)))
	if _, err := p.elsewhere(t.Context(), account, phone); err == nil {
		t.Error("it is taken up by an edge that has stopped")
	}
}

// keyOf is of a device of a shard, of so many.
func keyOf(t *testing.T, n, of int) subjects.Key {
	t.Helper()
	for i := 0; ; i++ {
		if user := fmt.Sprint("user-", i); shard.Of(user, of) == n {
			return subjects.Address{User: subjects.UserID(user), Device: "phone"}.Key()
		}
	}
}
