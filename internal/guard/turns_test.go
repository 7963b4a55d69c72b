package guard

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// as returns the header in which NATS names the service that asks.
func as(service string) nats.Header {
	return nats.Header{layout.HeaderRequester: {fmt.Sprintf(`{"acc":"A","user":%q}`, service)}}
}

// guarded is a guard at work, and a connection to ask it on.
func guarded(t *testing.T) (*Guard, *nats.Conn) {
	t.Helper()
	env := natstest.Server(t)
	nc := env.Conn(t)
	natstest.Streams(t, nc)
	g, err := Start(env.Conn(t), Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Stop(testkit.Soon(t)) })
	return g, nc
}

// A service that asks far more than it can be answered is served in turns with
// others: who asks last waits for a few of its requests, and not for all.
func TestAFloodOfOneServiceKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	_, nc := guarded(t)
	const flood = 5000
	var answers atomic.Int32
	before := make(chan int32, 1)
	for inbox, answered := range map[string]nats.MsgHandler{
		"_INBOX.flood.*": func(*nats.Msg) { answers.Add(1) }, "_INBOX.other.*": func(*nats.Msg) { before <- answers.Load() },
	} {
		if _, err := nc.Subscribe(inbox, answered); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(service, reply string) {
		t.Helper()
		err := nc.PublishMsg(&nats.Msg{Subject: layout.GuardedAPI("CONSUMER.INFO.RCCS_UP.none"), Reply: reply, Header: as(service)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range flood {
		ask("FLOOD", fmt.Sprint("_INBOX.flood.", n))
	}
	ask("OTHER", "_INBOX.other.1")
	n := testkit.Await(t, "another service is answered", before)
	t.Logf("%d requests of the flood were answered before that of another service", n)
	if n > flood/2 {
		t.Errorf("another service was answered after %d of %d requests of the flood", n, flood)
	}
	testkit.Eventually(t, "all of the flood is answered", func() bool { return answers.Load() == flood })
}

// A service past its bound is told so, in the words of what it asked for.
func TestAServicePastItsBoundIsTold(t *testing.T) {
	t.Parallel()
	g, nc := guarded(t)
	if release, ok := g.room.Take("FULL", waitingBytes); ok {
		defer release()
	}
	events, err := nc.SubscribeSync("rccs.event.alice.phone.full")
	if err != nil {
		t.Fatal(err)
	}
	for api, want := range map[string]string{
		"CONSUMER.INFO.RCCS_UP.none": "io.nats.jetstream.api.v1.consumer_info_response", "LATER.alice.phone.normal.1": `"stream":"RCCS_LATER"`,
	} {
		answer, err := nc.RequestMsg(&nats.Msg{Subject: layout.GuardedAPI(api), Header: as("FULL")}, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answer.Data); !strings.Contains(got, want) || !strings.Contains(got, "too many requests of this service") {
			t.Errorf("%s is answered %s", api, got)
		}
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: layout.GuardedAPI("LATER.alice.phone.normal.2"), Header: as("FULL")}); err != nil {
		t.Fatal(err)
	}
	if _, err := events.NextMsg(testkit.Patience); err != nil {
		t.Errorf("a delayed message without a reply subject is refused in silence: %v", err)
	}
}
