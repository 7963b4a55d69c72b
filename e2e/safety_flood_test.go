package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/need"
)

// floodSize is how often a flood asks: more often than any one requester may have
// something waiting.
const floodSize = 2000

// bystanders use the server while others flood it. They must notice nothing.
type bystanders struct {
	t     *testing.T
	s     *server
	near  *device // of the flooding device's user
	next  *device // of another user
	apart *device // of another tenant
	other *service
	round int
}

// slowest is the request that took longest.
type slowest struct {
	what string
	took time.Duration
}

func (s slowest) String() string {
	return fmt.Sprintf("%s (%s)", s.took.Round(time.Millisecond), s.what)
}

// max is the slower one.
func (s slowest) max(other slowest) slowest {
	if other.took > s.took {
		return other
	}
	return s
}

// asks has everybody ask something, and returns what took longest, with what had to
// be asked again because the store did not answer in time. Any other refusal fails
// the test.
func (c *bystanders) asks() (all slowest) {
	c.t.Helper()
	c.round++
	name := fmt.Sprintf("r%d-", c.round)
	timed := func(what string, ask func()) {
		began := time.Now()
		ask()
		all = all.max(slowest{what, time.Since(began)})
	}
	for who, d := range map[string]*device{"another device of the user": c.near, "another user": c.next, "another tenant": c.apart} {
		timed(who, func() {
			served(c.t, func() failure {
				return d.tries(object{"id": name + "own", "type": "note", "toDeviceId": "phone", "payload": "small", "requiresAck": true})
			})
		})
	}
	for what, subject := range map[string]string{"inbox": inbox("bob", "phone", "normal"), "route": "rccs.route.bob.all"} {
		timed("another service, "+what, func() {
			id := name + what
			if _, err := c.other.try(subject, `1`, "Rccs-Id", id); err != nil {
				c.t.Fatalf("another service is refused %s: %v", subject, err)
			}
			for {
				e := c.next.pick(true)
				c.next.ack(e.Seq)
				if e.ID == id {
					return
				}
			}
		})
	}
	timed("another service, missed", func() {
		served(c.t, func() (told failure) {
			m, err := c.other.nc.Request("rccs.coordinator.missed", []byte(`{"user":"bob","device":"phone"}`), patience)
			if err != nil {
				c.t.Fatal(err)
			}
			if m.Header.Get("Nats-Service-Error") != "" {
				decode(c.t, m.Data, &told)
			}
			return told
		})
	})
	return all
}

// served asks until it is told of nothing.
func served(t *testing.T, ask func() failure) {
	t.Helper()
	eventually(t, func() error {
		switch told := ask(); told.Code {
		case "":
			return nil
		case "UNAVAILABLE":
			return errors.New(told.Message)
		default:
			t.Fatalf("another is told %+v", told)
			return nil
		}
	})
}

// publishes is a flood over NATS.
func publishes(nc *nats.Conn, header nats.Header, body string, subject func(n int) string) func() error {
	reply := nc.NewInbox()
	return func() error {
		for n := range floodSize {
			if err := nc.PublishMsg(&nats.Msg{Subject: subject(n), Reply: reply, Header: header, Data: []byte(body)}); err != nil {
				return err
			}
		}
		return nc.FlushTimeout(patience)
	}
}

// sends is a flood of a device on a WebSocket, which reads the answers and forgets
// them.
func (d *device) sends(frame string) func() error {
	return func() error {
		defer d.close()
		go func() {
			for range d.in {
			}
		}()
		for n := range floodSize {
			if d.post(fmt.Sprintf(frame, n)) != nil {
				return nil // it was sent away, which is an answer too
			}
		}
		return nil
	}
}

// enrols is a flood of those who have no credential.
func (c *bystanders) enrols() error {
	url := "http" + strings.TrimSuffix(strings.TrimPrefix(c.s.Devices, "ws"), "/v1/ws") + "/v1/enroll"
	for n := range floodSize / 10 {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, url, strings.NewReader(`{"publicKey":"x","sig":"y"}`))
		if err != nil {
			return err
		}
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", n%250))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := res.Body.Close(); err != nil {
			return err
		}
		if res.StatusCode < 400 {
			return errors.New("nonsense is answered with " + res.Status)
		}
	}
	return nil
}

// framesOf are what a device floods its edge with, by kind.
var framesOf = map[string]string{
	"message":   `{"type":"note","id":"m%d","toDeviceId":"flood","payload":1}`,
	"history":   `{"type":"history","id":"h%d","payload":{"inbox":true}}`,
	"subscribe": `{"type":"subscribe","id":"s%d","payload":{"topic":"flood","since":0}}`,
	"publish":   `{"type":"publish","id":"p%d","payload":{"topic":"flood","data":1}}`,
	"request":   `{"type":"request","id":"q%d","toDeviceId":"flood","payload":{"method":"m"}}`,
	"list":      `{"type":"device_list","id":"l%d"}`,
	"odd":       `{"type":"gap","id":"o%d"}`,
}

// floods are the other ways to flood an endpoint: of a device on plain NATS, of a
// service, and of whoever has no credential.
func (c *bystanders) floods() map[string]func() error {
	c.t.Helper()
	dev, err := nats.Connect(c.s.NATS, credsOption(c.t, must(c.t, "creds", "device", "alice/flood", "--data", c.s.data)),
		nats.CustomInboxPrefix("_INBOX.alice.flood"), nats.Timeout(patience), nats.ErrorHandler(nobody))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(dev.Close)
	svc := c.s.service(c.t, "flood").nc
	fixed := func(subject string) func(int) string { return func(int) string { return subject } }
	later := nats.Header{
		"Nats-Schedule":        {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		"Nats-Schedule-Target": {"rccs.due.alice.flood.normal"},
	}
	all := map[string]func() error{
		"device fetch": publishes(dev, nil, `{"wait":30000}`, fixed("rccs.coordinator.device.alice.flood.fetch")),
		"device ack":   publishes(dev, nil, `{"seq":1}`, fixed("rccs.coordinator.device.alice.flood.ack")),
		"device send":  publishes(dev, nil, `{"type":"note","toDeviceId":"flood","payload":1}`, fixed("rccs.coordinator.device.alice.flood.send")),
		"device up":    publishes(dev, nil, `{"type":"note","payload":1}`, fixed("rccs.coordinator.device.alice.flood.up")),
		"device renew": publishes(dev, nil, `{}`, fixed("rccs.coordinator.device.alice.flood.renew")),

		"service inbox":         publishes(svc, nil, `1`, fixed("rccs.inbox.alice.flood.normal")),
		"service route":         publishes(svc, nil, `1`, fixed("rccs.route.bob.any.watch")),
		"service route to many": publishes(svc, nil, `1`, func(n int) string { return fmt.Sprintf("rccs.route.u%d.all", n) }),
		"service later":         publishes(svc, later, `1`, func(n int) string { return fmt.Sprintf("rccs.later.alice.flood.normal.f%d", n) }),
		"service signal":        publishes(svc, nil, `1`, fixed("rccs.signal.alice.phone")),
		"service rpc":           publishes(svc, nil, `1`, fixed("rccs.rpc.bob.phone.m")),
		"service topic":         publishes(svc, nil, `1`, fixed("rccs.topic.flood")),
		"service JetStream":     publishes(svc, nil, ``, fixed("$JS.API.CONSUMER.LIST.RCCS_UP")),

		"stranger enrol": c.enrols,
	}
	for _, endpoint := range []string{"status", "devices", "device", "sessions", "edges", "missed", "replay", "forget", "enroll", "renew"} {
		all["service "+endpoint] = publishes(svc, nil, `{"user":"alice","device":"flood"}`, fixed("rccs.coordinator."+endpoint))
	}
	return all
}

// Whatever endpoint of a running server is flooded, by a device, a service or a
// stranger, everybody else is served: another device of the user, one of another user
// or tenant, and another service.
func TestWhileAnyEndpointIsFloodedOthersAreServed(t *testing.T) {
	need.Night(t, "it floods a server in thirty ways, which takes minutes")
	t.Parallel()
	s := start(t)
	s.tenant(t, "other")
	c := &bystanders{
		t: t, s: s, near: connect(t, s, "alice/phone", nil), next: connect(t, s, "bob/phone", nil),
		apart: connect(t, s, "carol/phone", object{"authToken": s.bearer(t, "other", "carol/phone")}), other: s.service(t, "other"),
	}
	for name, flood := range c.floods() {
		c.during(name, flood)
	}
	for kind, frame := range framesOf {
		c.during("frames "+kind, connect(t, s, "alice/flood", nil).sends(frame))
	}
}

// during measures what a flood costs others.
func (c *bystanders) during(name string, flood func() error) {
	c.t.Helper()
	before, done := c.asks(), make(chan error, 1)
	go func() { done <- flood() }()
	var meanwhile slowest
	for more := true; more; {
		meanwhile = meanwhile.max(c.asks())
		select {
		case err := <-done:
			if err != nil {
				c.t.Errorf("%s: %v", name, err)
			}
			more = false
		default:
		}
	}
	meanwhile = meanwhile.max(c.asks()) // while what is left of it is worked on
	c.t.Logf("%s: the slowest answer to others took %s before and %s meanwhile", name, before, meanwhile)
}
