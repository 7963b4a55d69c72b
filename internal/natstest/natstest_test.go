package natstest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

func stream(tb testing.TB, nc *nats.Conn) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		tb.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(tb.Context(), jetstream.StreamConfig{Name: "T", Subjects: []string{"t"}})
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

func publish(tb testing.TB, js jetstream.JetStream, n int) {
	tb.Helper()
	for i := range n {
		if _, err := js.Publish(tb.Context(), "t", fmt.Append(nil, i)); err != nil {
			tb.Fatal(err)
		}
	}
}

func stored(tb testing.TB, js jetstream.JetStream) uint64 {
	tb.Helper()
	s, err := js.Stream(tb.Context(), "T")
	if err != nil {
		tb.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestRestartKeepsStoreAndConnection(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]natstest.Option{"in process": nil, "listening": {natstest.Listen()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := natstest.Server(t, opts...)
			nc := env.Conn(t)
			if opts != nil {
				nc = natstest.Dial(t, env.URL())
			}
			js := stream(t, nc)
			publish(t, js, 3)
			env.Stop()
			testkit.Eventually(t, "disconnected", func() bool { return !nc.IsConnected() })
			env.Start()
			testkit.Eventually(t, "reconnected", nc.IsConnected)
			if n := stored(t, js); n != 3 {
				t.Fatalf("%d messages after the restart, want 3", n)
			}
		})
	}
}

func TestKillKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	js := stream(t, env.Conn(t))
	publish(t, js, 100)
	before := env.StoreDir()
	env.Kill()
	if env.StoreDir() == before {
		t.Fatal("the store is still the one that was shut down")
	}
	env.Start()
	testkit.Eventually(t, "100 messages", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "T")
		return err == nil && s.CachedInfo().State.Msgs == 100
	})
}

func TestCutBreaksConnections(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	lost, back := make(chan struct{}, 1), make(chan struct{}, 1)
	env.Conn(t,
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- struct{}{} }),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	env.Cut()
	<-lost
	<-back
}

func TestConnectionFailsWhileStopped(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	env.Stop()
	env.Stop()
	if nc, err := nats.Connect("", nats.InProcessServer(env)); err == nil {
		nc.Close()
		t.Fatal("connected to a stopped server")
	}
}

func TestStreamsAreThoseOfRCCS(t *testing.T) {
	t.Parallel()
	js := natstest.Streams(t, natstest.Server(t).Conn(t))
	if _, err := js.Publish(t.Context(), "rccs.inbox.alice.phone.normal", nil); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkServer(b *testing.B) {
	for b.Loop() {
		env := natstest.Server(b)
		env.Conn(b).Close()
		env.Stop()
	}
}
