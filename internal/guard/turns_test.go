package guard

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

// guarded is a guard at work, and the server where services reach it.
func guarded(t *testing.T, services ...string) (*Guard, *natstest.Env) {
	t.Helper()
	return guardedWith(t, Options{}, services...)
}

func guardedWith(t *testing.T, opts Options, services ...string) (*Guard, *natstest.Env) {
	t.Helper()
	env := natstest.Server(t, natstest.Services(services...))
	natstest.Streams(t, env.Conn(t))
	opts.Logger = slog.New(slog.DiscardHandler)
	g, err := Start(env.Conn(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Stop(testkit.Soon(t)) })
	return g, env
}

// A service that asks far more than it can be answered is served in turns with
// others: who asks last waits for a few of its requests, and not for all.
func TestAFloodOfOneServiceKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	_, env := guarded(t, "FLOOD", "OTHER")
	const flood = 5000
	var answers atomic.Int32
	before := make(chan int32, 1)
	services := make(map[string]*nats.Conn)
	for service, answered := range map[string]nats.MsgHandler{
		"FLOOD": func(*nats.Msg) { answers.Add(1) }, "OTHER": func(*nats.Msg) { before <- answers.Load() },
	} {
		services[service] = env.Service(t, service)
		if _, err := services[service].Subscribe("answers."+service+".*", answered); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(service string, n int) {
		t.Helper()
		if err := services[service].PublishRequest("$JS.API.CONSUMER.INFO.RCCS_UP.none", fmt.Sprintf("answers.%s.%d", service, n), nil); err != nil {
			t.Fatal(err)
		}
	}
	for n := range flood {
		ask("FLOOD", n)
	}
	if err := services["FLOOD"].FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	ask("OTHER", 1)
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
	g, env := guarded(t, "FULL")
	nc := env.Service(t, "FULL")
	if release, ok := g.room.TryAcquire("FULL", serviceBytes); ok {
		defer release()
	}
	listener := env.Conn(t)
	events, err := listener.SubscribeSync("rccs.event.alice.phone.full")
	if err == nil {
		err = listener.FlushTimeout(testkit.Patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{
		"$JS.API.CONSUMER.INFO.RCCS_UP.none": "io.nats.jetstream.api.v1.consumer_info_response", "rccs.later.alice.phone.normal.1": `"stream":"RCCS_LATER"`,
	} {
		answer, err := nc.Request(subject, nil, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answer.Data); !strings.Contains(got, want) || !strings.Contains(got, "too many requests of this service") {
			t.Errorf("%s is answered %s", subject, got)
		}
	}
	if err := nc.Publish("rccs.later.alice.phone.normal.2", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := events.NextMsg(testkit.Patience); err != nil {
		t.Errorf("a delayed message without a reply subject is refused in silence: %v", err)
	}
}

// Nobody waits for the answer, so the event is all that tells of it.
func TestADelayedMessageThatExpectsAStreamOfSeveralIsNotRefusedInSilence(t *testing.T) {
	t.Parallel()
	counted := make(chan string, 1)
	_, env := guardedWith(t, Options{Shards: 2, Undeliverable: func(reason string) { counted <- reason }}, "BILLING")
	listener := env.Conn(t)
	events, err := listener.SubscribeSync("rccs.event.alice.phone.undeliverable")
	if err == nil {
		err = listener.FlushTimeout(testkit.Patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("rccs.later.alice.phone.normal.1")
	m.Header = nats.Header{
		"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"rccs.due.alice.phone.normal"}, "Nats-Expected-Stream": {"RCCS_LATER"},
	}
	if err := env.Service(t, "BILLING").PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if got := testkit.Await(t, "it is counted", counted); got != wire.ReasonBadSchedule {
		t.Errorf("counted as %s", got)
	}
	if _, err := events.NextMsg(testkit.Patience); err != nil {
		t.Errorf("no event: %v", err)
	}
}
