package edge_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A device that gives a registration up, because the store answers the edge too
// slowly, and connects to another edge, stays there when the store answers.
func TestARegistrationWhoseDeviceHasGoneIsNotTaken(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, natstest.Server(t, natstest.Listen()), nil, nil)
	log := new(testkit.Log)
	proxy := natstest.NewProxy(t, w.env.Addr())
	slow := w.second(func(opts ...nats.Option) (*nats.Conn, error) { return natstest.Connect(proxy.URL(), opts...) },
		func(o *edge.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	proxy.Freeze()
	given := slow.dial()
	slow.register(given, "alice/phone")
	eventually(t, "the edge waits for the store", func() bool { return slow.pub.Unacknowledged() > 0 })
	check(t, given.NetConn().Close())
	d := w.connect()
	eventually(t, "the slow edge gives the registration up", func() bool { return strings.Contains(log.String(), "registration given up") })
	proxy.Heal()
	eventually(t, "the store answers the slow edge", func() bool { return slow.pub.Unacknowledged() == 0 })
	d.Send(`{"type":"heartbeat","id":"h"}`)
	if kind, body := d.Next(); kind != "ack" {
		t.Errorf("the device hears %s %s", kind, body)
	}
	if text := log.String(); strings.Contains(text, "device registered") {
		t.Errorf("the slow edge took it: %s", text)
	}
}

// Who asks why a device cannot log in finds it in the log by its name, when the
// credential that it showed is one that was made here.
func TestARefusedRegistrationIsLoggedWithItsDevice(t *testing.T) {
	t.Parallel()
	log := new(testkit.Log)
	w := newWorld(t, func(o *edge.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	old := w.tokenFor("alice/old", time.Second)
	for name, c := range map[string]struct{ register, code, want string }{
		"a credential that has ended": {`"authToken":"` + old + `"`, "TOKEN_EXPIRED", "user=alice device=old"},
		"another device's credential": {`"id":"desktop","authToken":"` + w.token("alice/phone") + `"`, "IDENTITY_MISMATCH", "user=alice device=phone"},
		"no credential of ours":       {`"authToken":"eyJhbGciOiJub25lIn0.e30.c2ln"`, "AUTH_ERROR", ""},
	} {
		eventually(t, name+" is refused", func() bool { // one that ends is good until then
			d := w.dial()
			d.Send(`{"type":"device_register","id":"r","payload":{` + c.register + `}}`)
			_, body := d.Next()
			return strings.Contains(body, c.code)
		})
		eventually(t, name+" is logged", func() bool {
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "registration refused") && strings.Contains(line, c.code) {
					return strings.Contains(line, c.want) && strings.Contains(line, "device=") == (c.want != "")
				}
			}
			return false
		})
	}
}
