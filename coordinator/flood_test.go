package coordinator_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// asksEach has a device ask each endpoint once, and returns what the slowest
// answer took.
func (d *device) asksEach(round string) (slowest time.Duration) {
	d.p.t.Helper()
	for endpoint, body := range map[string]map[string]any{
		"fetch": {"limit": 1}, "ack": {"seq": 1},
		"send": {"type": "note", "id": "s" + round, "toDeviceId": "other", "payload": 1}, "up": {"type": "note", "id": "u" + round, "payload": 1},
	} {
		began := time.Now()
		if code := d.ask(endpoint, body, nil); code != "" {
			d.p.t.Errorf("%s asks %s, and is told %s", d.name, endpoint, code)
		}
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// A device that asks more than it can be answered, and goes, keeps nobody
// waiting, of its user or another, at no endpoint. Nor does a service keep devices
// waiting.
func TestFloodOfAnyEndpointKeepsNoOtherDeviceWaiting(t *testing.T) {
	need.Long(t, "it floods a coordinator in several ways")
	t.Parallel()
	p, e := placeWithEdge(t)
	p.register(e, "alice/other", "desktop")
	p.register(e, "bob/other", "desktop")
	p.coordinate()
	flood, neighbour, stranger := p.device("alice/flood"), p.device("alice/neighbour"), p.device("bob/phone")
	before := max(neighbour.asksEach("before"), stranger.asksEach("before"))
	for endpoint, body := range map[string]string{
		"fetch": `{"wait":30000}`, "ack": `{"seq":1}`, "send": `{"type":"note","id":"m","toDeviceId":"other","payload":1}`,
		"up": `{"type":"note","id":"m","payload":1}`, "odd": `[`,
	} {
		subject := subjects.DeviceEndpoint(flood.key, endpoint)
		if endpoint == "odd" {
			subject = subjects.DeviceEndpoint(flood.key, "send")
		}
		p.floods(flood.nc, subject, body)
		slowest := max(neighbour.asksEach("during"+endpoint), stranger.asksEach("during"+endpoint))
		t.Logf("%s: the slowest answer of a neighbour took %s before and %s meanwhile", endpoint, before, slowest)
		if slowest > 25*time.Second { // the flood waits for 30 s
			t.Errorf("after a flood of %s a neighbour waited %s", endpoint, slowest)
		}
	}
	service := p.env.Conn(t)
	for _, endpoint := range []string{"status", "devices", "device", "sessions", "edges", "forget", "missed", "replay"} {
		p.floods(service, subjects.CoordinatorEndpoint(endpoint), `{"user":"alice","device":"other","fromSeq":1}`)
		slowest := max(neighbour.asksEach("service"+endpoint), stranger.asksEach("service"+endpoint))
		t.Logf("%s of a service: the slowest answer of a device took %s", endpoint, slowest)
	}
}

// A service that asks more than it can be answered is refused by itself: another
// service, and an operator, are answered meanwhile.
func TestFloodOfAServiceKeepsNoOtherServiceWaiting(t *testing.T) {
	t.Parallel()
	p := newPlace(t, natstest.Services("FLOOD", "OTHER"))
	p.register(p.edge("e"), "alice/phone", "mobile")
	p.coordinate()
	flood, other := p.env.Service(t, "FLOOD"), p.env.Service(t, "OTHER")
	var refused atomic.Int32
	inbox := flood.NewInbox()
	if _, err := flood.Subscribe(inbox, func(m *nats.Msg) {
		if m.Header.Get(micro.ErrorCodeHeader) == "503" {
			refused.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"user":"alice","device":"phone"}`)
	var slowest time.Duration
	for range 5 {
		for range 1000 {
			if err := flood.PublishRequest(subjects.CoordinatorEndpoint("device"), inbox, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := flood.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		for who, nc := range map[string]*nats.Conn{"another service": other, "an operator": p.nc} {
			began := time.Now()
			m, err := nc.Request(subjects.CoordinatorEndpoint("device"), body, patience)
			if err != nil || m.Header.Get(micro.ErrorHeader) != "" {
				t.Fatalf("%s is told %v, %v", who, m, err)
			}
			slowest = max(slowest, time.Since(began))
		}
	}
	t.Logf("the slowest of 10 answers to others took %s; of the flood %d were refused", slowest, refused.Load())
	if refused.Load() == 0 {
		t.Error("the flood was no flood: nothing of it was refused")
	}
}

// floods asks an endpoint more often than it can be answered, and does not wait.
func (p *place) floods(nc *nats.Conn, subject, body string) {
	p.t.Helper()
	for range 5200 {
		if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: nc.NewInbox(), Data: []byte(body)}); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(patience); err != nil {
		p.t.Fatal(err)
	}
}

func TestNewerFetchEndsTheOlder(t *testing.T) {
	t.Parallel()
	_, d := placeWithDevice(t)
	older := make(chan time.Duration, 1)
	inbox := d.nc.NewInbox()
	began := time.Now()
	sub, err := d.nc.Subscribe(inbox, func(*nats.Msg) { older <- time.Since(began) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest(subjects.DeviceEndpoint(d.key, "fetch"), inbox, []byte(`{"wait":30000}`)); err != nil {
		t.Fatal(err)
	}
	for range 10 { // the first may be looked at before the one that is to be older
		d.fetch(map[string]any{"wait": 500})
		if len(older) > 0 {
			break
		}
	}
	select {
	case took := <-older:
		if took > 25*time.Second {
			t.Errorf("the older fetch was answered after %s", took)
		}
	default:
		t.Error("the older fetch goes on waiting")
	}
}

// Services take turns in what they publish to rccs.route, to one user and to many:
// also while a message of another has to wait for a device that may yet come.
func TestAFloodOfRoutesOfOneServiceKeepsNoOtherWaiting(t *testing.T) {
	need.Long(t, "it stores tens of thousands of messages")
	t.Parallel()
	const flood = 4_000
	for name, subject := range map[string]func(n int) string{
		"to the same user":   func(int) string { return "rccs.route.bob.all" },
		"to no device of it": func(int) string { return "rccs.route.bob.any.watch" },
		"to many users":      func(n int) string { return fmt.Sprintf("rccs.route.user%d.all", n%500) },
	} {
		t.Run(name, func(t *testing.T) {
			p, e := placeWithEdge(t)
			p.register(e, "bob/phone", "mobile")
			for n := range 500 {
				if name == "to many users" {
					e.Register(address(fmt.Sprintf("user%d/phone", n)).Key(), roster.Record{Type: "mobile"})
				}
			}
			p.coordinate()
			// A message is done when an inbox has it, or when an event says that none can.
			var done atomic.Int64
			before := make(chan int64, 1)
			nc := p.env.Conn(t)
			if _, err := nc.Subscribe("rccs.>", func(m *nats.Msg) {
				switch {
				case string(m.Data) == `"other"` && strings.HasPrefix(m.Subject, "rccs.inbox."):
					before <- done.Load()
				case strings.HasPrefix(m.Subject, "rccs.inbox."), strings.HasSuffix(m.Subject, ".undeliverable"):
					done.Add(1)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			publish := func(service, subject, body string) {
				t.Helper()
				who := fmt.Sprintf(`{"acc":"A","user":%q}`, service) // as NATS says who asks by an import
				m := &nats.Msg{Subject: subject, Header: nats.Header{layout.HeaderRequester: {who}}, Data: []byte(body)}
				if err := p.nc.PublishMsg(m); err != nil {
					t.Fatal(err)
				}
			}
			for n := range flood {
				publish("FLOOD", subject(n), fmt.Sprint(n))
			}
			began := done.Load() // on a busy machine much of it is done by now
			publish("OTHER", "rccs.route.bob.all", `"other"`)
			n := testkit.Await(t, "another service's message is in the inbox", before) - began
			t.Logf("%s: %d of the %d of the flood that were left were done before the message of another service", name, n, flood-began)
			// Without turns it is all of the flood. With them it is little on most
			// machines, and more where the service is heard late.
			if n > (flood-began)*4/5+flood/20 {
				t.Errorf("another service's message waited for %d of %d of the flood", n, flood-began)
			}
		})
	}
}
