package edge_test

import (
	"log/slog"
	"strings"
	"testing"

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
	slow := w.second(func(opts ...nats.Option) (*nats.Conn, error) { return nats.Connect(proxy.URL(), opts...) },
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
