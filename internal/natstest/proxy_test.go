package natstest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

func proxied(t *testing.T) (*natstest.Proxy, *nats.Conn) {
	t.Helper()
	env := natstest.Server(t, natstest.Listen())
	proxy := natstest.NewProxy(t, env.Addr())
	nc := natstest.Dial(t, proxy.URL())
	sub, err := nc.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return proxy, nc
}

func echo(nc *nats.Conn, d time.Duration) error {
	_, err := nc.Request("echo", []byte("hi"), d)
	return err
}

func TestProxyForwards(t *testing.T) {
	t.Parallel()
	proxy, nc := proxied(t)
	if err := echo(nc, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if n := proxy.Links(); n != 1 {
		t.Fatalf("%d links, want 1", n)
	}
}

func TestProxyDropIsFollowedByReconnect(t *testing.T) {
	t.Parallel()
	proxy, nc := proxied(t)
	proxy.Drop()
	testkit.Eventually(t, "reconnected", func() bool { return nc.Stats().Reconnects == 1 })
	if err := echo(nc, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestProxyCutLastsUntilHeal(t *testing.T) {
	t.Parallel()
	proxy, nc := proxied(t)
	proxy.Cut()
	testkit.Eventually(t, "disconnected", func() bool { return !nc.IsConnected() })
	if other, err := nats.Connect(proxy.URL()); err == nil {
		other.Close()
		t.Fatal("connected through a cut proxy")
	}
	proxy.Heal()
	testkit.Eventually(t, "reconnected", nc.IsConnected)
	if err := echo(nc, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestProxyFreezeHoldsAndHealLetsGo(t *testing.T) {
	t.Parallel()
	proxy, nc := proxied(t)
	proxy.Freeze()
	if err := echo(nc, 50*time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Fatalf("request through a frozen proxy: %v, want a timeout", err)
	}
	if !nc.IsConnected() {
		t.Fatal("freezing closed the connection")
	}
	proxy.Heal()
	if err := echo(nc, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestProxyClosesWhileFrozen(t *testing.T) {
	t.Parallel()
	proxy, nc := proxied(t)
	proxy.Freeze()
	_ = nc.Publish("held", nil)
	_ = nc.FlushTimeout(10 * time.Millisecond)
	proxy.Close() // waits for the pumps, which wait for the gate
	if n := proxy.Links(); n != 0 {
		t.Fatalf("%d links after Close", n)
	}
}
