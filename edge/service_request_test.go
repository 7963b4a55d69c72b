package edge_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

// The way back of a service's request is open for two minutes, so that a device
// must not be told of more. A service that gives up tells the device so.
func TestServicesRequestHasTheTimeThatItsWayHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.connect()
	nc := w.env.Conn(t)
	ask := func(id, timeout string) int64 {
		t.Helper()
		m := &nats.Msg{Subject: subjects.RPC(phone, "work"), Reply: nats.NewInbox(), Header: nats.Header{subjects.HeaderID: {id}}}
		if timeout != "" {
			m.Header[subjects.HeaderTimeout] = []string{timeout}
		}
		check(t, nc.PublishMsg(m))
		kind, body := d.Next()
		var e struct {
			ID      string
			Payload struct{ TimeoutMs int64 }
		}
		check(t, json.Unmarshal([]byte(body), &e))
		if kind != "request" || e.ID != id {
			t.Fatalf("the device got %s", body)
		}
		return e.Payload.TimeoutMs
	}
	for timeout, want := range map[string]int64{"": 110_000, "300000": 110_000, "9223372036854775807": 110_000, "90000": 90_000} {
		if got := ask("r"+timeout, timeout); got != want {
			t.Errorf("asked for %q: the device was told %d ms, want %d", timeout, got, want)
		}
	}
	check(t, nc.PublishMsg(&nats.Msg{Subject: subjects.RPC(phone, "work"), Header: nats.Header{subjects.HeaderCancel: {"r90000"}}}))
	if kind, body := d.Next(); kind != "ack" || !strings.Contains(body, `"cancel":"r90000"`) {
		t.Errorf("of the cancellation the device was told %s", body)
	}
}

// A service that asks a device more than it answers is refused by itself: another
// one's requests reach the device.
func TestAServiceThatFloodsADeviceKeepsNoOtherFromAskingIt(t *testing.T) {
	t.Parallel()
	others := []string{"A", "B", "C", "D", "E"}
	// The device reads nothing while the flood comes, which may take long.
	w := newWorldOn(t, natstest.Server(t, natstest.Services(append(others, "FLOOD")...)), func(o *edge.Options) { o.Heartbeat = 5 * time.Minute }, nil)
	d := w.connect()
	var refused atomic.Int32
	services := make(map[string]*nats.Conn)
	for _, name := range append(others, "FLOOD") {
		services[name] = w.env.Service(t, name)
		_, err := services[name].Subscribe("asked."+name, func(m *nats.Msg) {
			if m.Header.Get(subjects.HeaderError) != "UNAVAILABLE" || name != "FLOOD" {
				t.Errorf("%s is answered %v", name, m.Header)
			}
			refused.Add(1)
		})
		check(t, err)
	}
	ask := func(service, id string) {
		t.Helper()
		check(t, services[service].PublishMsg(&nats.Msg{
			Subject: subjects.RPC(phone, "work"), Reply: "asked." + service,
			// What it says itself of who it is does not count: NATS replaces it.
			Header: nats.Header{subjects.HeaderID: {id}, layout.HeaderRequester: {`{"acc":"A","user":"` + id + `"}`}},
		}))
	}
	const flood, given = 3000, 256
	for n := range flood {
		ask("FLOOD", fmt.Sprint("flood-", n))
	}
	eventually(t, "what is too much of the flood is refused", func() bool { return refused.Load() == flood-given })
	for _, other := range others {
		ask(other, "of "+other)
	}
	for n := range given + 5 {
		kind, body := d.Next()
		if other := n >= given; kind != "request" || strings.Contains(body, `"of `) != other {
			t.Fatalf("the device got %s", body)
		}
	}
}

// What is asked while a device leaves is answered all the same: NATS has sent the
// request on by the time that the edge listens no more.
func TestWhatIsAskedWhileADeviceLeavesIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 20 {
		d := w.connect()
		answered := natstest.Ask(t, w.env.Conn(t), subjects.RPC(phone, "work"), nil, 50)
		d.Until("request")
		d.Send(`{"type":"device_unregister","id":"u"}`)
		if code := d.CloseCode(); code != 1000 {
			t.Fatalf("closed with %d", code)
		}
		answered()
	}
}

// A device that comes back while its earlier connection is still there is asked
// everything once, and loses no request.
func TestADeviceThatComesBackIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	d := w.connect()
	answered := natstest.Ask(t, w.env.Conn(t), subjects.RPC(phone, "work"), nil, 200) // fewer than the device may have open
	var (
		reading sync.WaitGroup
		mu      sync.Mutex
		seen    = make(map[string]bool)
	)
	read := func(d *device) {
		for {
			var e struct{ Type, ID string }
			if d.ReadJSON(&e) != nil {
				return
			}
			if e.Type == "request" {
				mu.Lock()
				if _, err := strconv.Atoi(e.ID); err != nil || seen[e.ID] {
					t.Errorf("the device is asked once more: %s", e.ID)
				}
				seen[e.ID] = true
				mu.Unlock()
			}
		}
	}
	for range 20 {
		next := w.dial()
		next.Register(w.token("alice/phone"), "")
		earlier := d
		reading.Go(func() { read(earlier) })
		d = next
	}
	d.Send(`{"type":"device_unregister","id":"u"}`)
	read(d)
	reading.Wait()
	answered()
}
