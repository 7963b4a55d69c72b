package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestComposeSaysWhatTheOptionsSay(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	e, err := client.Compose("note", map[string]int{"a": 1},
		client.To("desk"), client.WithID("m1"), client.WithPriority(subjects.Critical), client.WithTTL(90*time.Second), client.WithDeliverAt(at),
		client.WithCollapseKey("k"), client.WithoutStoring(), client.WithCorrelationID("c"), client.WithTraceparent("00-ab-cd-01"))
	if err != nil {
		t.Fatal(err)
	}
	to := e.To
	e.To = nil
	want := wire.Envelope{
		ID: "m1", Type: "note", Payload: []byte(`{"a":1}`), Priority: wire.Critical, TTLMs: 90_000, DeliverAt: at,
		CollapseKey: "k", Ephemeral: true, CorrelationID: "c", Traceparent: "00-ab-cd-01",
	}
	if fmt.Sprint(e) != fmt.Sprint(want) || *to != (wire.To{Device: "desk"}) {
		t.Errorf("composed %+v to %+v", e, to)
	}
	for name, test := range map[string]struct {
		option client.SendOption
		want   wire.To
	}{
		"all":           {client.ToAll(), wire.To{Mode: wire.ModeAll}},
		"type":          {client.ToType("desktop"), wire.To{DeviceType: "desktop", Mode: wire.ModeAll}},
		"any of a type": {client.ToAnyOfType("desktop"), wire.To{DeviceType: "desktop", Mode: wire.ModeAny}},
		"capability":    {client.ToCapability("x"), wire.To{Capability: "x", Mode: wire.ModeAll}},
		"any with":      {client.ToAnyWithCapability("x"), wire.To{Capability: "x", Mode: wire.ModeAny}},
		"service":       {client.ToService(), wire.To{Service: true}},
	} {
		e, err := client.Compose("note", json.RawMessage(`{ "as": "it is" }`), test.option)
		if err != nil || *e.To != test.want || string(e.Payload) != `{ "as": "it is" }` || e.ID == "" || e.Priority != wire.Normal {
			t.Errorf("%s: %+v to %+v, %v", name, e, e.To, err)
		}
	}
	if _, err := client.Compose("note", func() {}); err == nil {
		t.Error("a function became JSON")
	}
}

func TestCancelTakesBackADelayedMessage(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		for _, answer := range []string{`{"status":"success","originalMessageId":"m1","cancelled":2}`, ""} {
			a, err := wire.DecodeAck(nil, p.want(wire.TypeAck).Payload)
			if err != nil || a.Cancel != "m1" {
				t.Errorf("asked for %+v, %v", a, err)
			}
			if answer != "" {
				p.send(`{"type":"ack","fromDeviceId":"server","payload":` + answer + `}`)
			} else {
				p.refuse(wire.Envelope{ID: "m1"}, wire.Unavailable)
			}
		}
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if n, err := c.Cancel(testkit.Soon(t), "m1"); n != 2 || err != nil {
		t.Errorf("cancelled %d, %v", n, err)
	}
	if _, err := c.Cancel(testkit.Soon(t), "m1"); !errors.Is(err, wire.Unavailable) {
		t.Errorf("refused with %v", err)
	}
}

func TestTrackTellsWhatBecameOfAMessageAtEachRecipient(t *testing.T) {
	t.Parallel()
	allAcked := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		outcome := func(seq uint64, id, device string, status wire.Status) {
			o := wire.Outcome{OriginalID: id, Status: status, DeviceID: subjects.DeviceID(device)}
			e := wire.Envelope{ID: id, Type: wire.TypeAck, FromDeviceID: wire.Server, Seq: seq, Payload: o.AppendPayload(nil)}
			p.send(string(e.Append(nil)))
		}
		e := p.want("note")
		outcome(1, e.ID, "watch", wire.StatusDelivered) // faster than the answer
		outcome(2, "other", "watch", wire.StatusDelivered)
		p.accept(e, "watch", "desk")
		outcome(3, e.ID, "desk", wire.StatusExpired)
		outcome(3, e.ID, "desk", wire.StatusExpired) // again
		p.acks(1, 2, 3, 3)
		close(allAcked)
		p.accept(p.want("task_start"))
		p.drain()
	})
	c := dial(t, url, client.Options{})
	e, _ := client.Compose("note", 1)
	tracked, err := c.Track(testkit.Soon(t), e)
	if err != nil || len(tracked.Accepted.Recipients) != 2 {
		t.Fatalf("tracked %+v, %v", tracked, err)
	}
	for _, want := range []client.Outcome{
		{ID: e.ID, Device: "watch", Status: wire.StatusDelivered}, {ID: e.ID, Device: "desk", Status: wire.StatusExpired},
	} {
		if o, err := tracked.Next(testkit.Soon(t)); err != nil || o != want {
			t.Errorf("outcome %+v, %v, want %+v", o, err, want)
		}
	}
	if _, err := tracked.Next(testkit.Soon(t)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
	testkit.Await(t, "the acknowledgements", allAcked)
	task, _ := client.Compose("task_start", 1)
	waiting, err := c.Track(testkit.Soon(t), task)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testkit.Soon(t))
	cancel()
	if _, err := waiting.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("of a task that waits for a device: %v", err)
	}
	_ = c.Close()
	if _, err := waiting.Next(testkit.Soon(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
