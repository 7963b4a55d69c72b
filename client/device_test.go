package client_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

func TestDevicesAreListed(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		l := wire.DeviceList{OriginalID: p.want(wire.TypeDeviceList).ID, Devices: []wire.Device{
			{ID: "desk", Type: "desktop", Status: wire.Busy, Capabilities: []byte(`{"a":true}`)}, {ID: "phone", Status: wire.Online},
		}}
		p.send(string(l.Append(nil)))
		p.refuse(p.want(wire.TypeDeviceList), wire.Unavailable)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	all, err := c.Devices(testkit.Soon(t))
	if err != nil || len(all) != 2 || all[0].ID != "desk" || all[0].Status != wire.Busy || string(all[0].Capabilities) != `{"a":true}` {
		t.Errorf("listed %+v, %v", all, err)
	}
	if _, err := c.Devices(testkit.Soon(t)); !errors.Is(err, wire.Unavailable) {
		t.Errorf("refused with %v", err)
	}
}

func TestStatusIsToldAgainAfterAReconnect(t *testing.T) {
	t.Parallel()
	told := make(chan string, 4)
	cut := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		e := p.want(wire.TypeStatus)
		told <- string(e.Payload)
		p.send(string(wire.AppendSuccess(nil, e.ID)))
		if p.n == 0 {
			<-cut
			return
		}
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if err := c.SetStatus(testkit.Soon(t), wire.Busy, map[string]any{"note": "in a call"}); err != nil {
		t.Fatal(err)
	}
	close(cut)
	first, again := testkit.Await(t, "the status", told), testkit.Await(t, "the status again", told)
	if first != again || !strings.Contains(first, `"status":"busy"`) || !strings.Contains(first, `"in a call"`) {
		t.Errorf("told %s, then %s", first, again)
	}
	if err := c.SetStatus(testkit.Soon(t), wire.Busy, 7); err == nil {
		t.Error("a number went beside the status")
	}
}

func TestPresenceAndGapsGoToTheirCallbacks(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		presence := wire.Presence{DeviceID: "desk", Status: wire.Away, Type: "desktop"}
		p.send(string(presence.Append(nil)))
		gap := wire.Gap{Lane: "normal", From: 3, To: 9, Count: 4}
		durable := wire.Envelope{Type: wire.TypeGap, ID: "g", FromDeviceID: wire.Server, Seq: 8, Payload: gap.AppendPayload(nil)}
		p.send(string(gap.Append(nil)), string(durable.Append(nil)), string(durable.Append(nil)))
		p.acks(8, 8)
		p.send(note(9))
		p.acks(9)
		p.drain()
	})
	presences, gaps := make(chan client.Presence, 4), make(chan wire.Gap, 4)
	c := dial(t, url, client.Options{
		OnPresence: func(p client.Presence) { presences <- p },
		OnGap:      func(g wire.Gap) { gaps <- g },
	})
	if p := testkit.Await(t, "presence", presences); p.Device != "desk" || p.Status != wire.Away || p.Type != "desktop" {
		t.Errorf("presence %+v", p)
	}
	for range 2 {
		if g := testkit.Await(t, "a gap", gaps); g != (wire.Gap{Lane: "normal", From: 3, To: 9, Count: 4}) {
			t.Errorf("gap %+v", g)
		}
	}
	receive(t, c, 9).Ack() // and nothing else was received
	if len(gaps) > 0 {
		t.Error("a durable gap was told twice")
	}
}

func TestGapsAreReceivedWithoutACallback(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		p.send(string((&wire.Presence{DeviceID: "desk", Status: wire.Away}).Append(nil)), string((&wire.Gap{Lane: "low", From: 1, To: 2, Count: 1}).Append(nil)))
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if m, err := c.Receive(testkit.Soon(t)); err != nil || m.Type != wire.TypeGap {
		t.Fatalf("received %+v, %v; want the gap, and nothing of presence", m, err)
	}
}

func TestUnregisterAndForgetEndTheClient(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"unregister": false, "forget": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(p *peer) {
				p.registered()
				e := p.want(wire.TypeUnregister)
				if p.n == 0 {
					return // cut: it must be said again
				}
				if u, err := wire.DecodeUnregister(e.Payload); err != nil || u.Forget != forget {
					t.Errorf("unregistered with %s, %v", e.Payload, err)
				}
				p.send(string(wire.AppendSuccess(nil, e.ID)))
				p.close(wire.CloseNormal)
			})
			c := dial(t, url, client.Options{})
			leave := c.Unregister
			if forget {
				leave = c.Forget
			}
			if err := leave(testkit.Soon(t)); err != nil {
				t.Fatal(err)
			}
			if err := c.Err(); !errors.Is(err, client.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
