package edge_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/edge"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// faultyInbox and faultyTopics have faults, each where a part of the edge asks
// for something.
type (
	faultyInbox  struct{ edge.Inbox }
	faultyTopics struct{ edge.Topics }
)

func (faultyInbox) Recipients(context.Context, uint64) ([]inbox.Recipient, error) {
	panic("a fault of the edge, where a goroutine looks up a repeat's recipients") //nolint:forbidigo // the fault that is tested
}

func (f faultyInbox) Attach(ctx context.Context, k subjects.Key, to inbox.Receiver, opts inbox.MailboxOptions) (*inbox.Mailbox, error) {
	if k == (subjects.Address{User: "alice", Device: "faulty"}).Key() {
		panic("a fault of the edge, at registration") //nolint:forbidigo // the fault that is tested
	}
	return f.Inbox.Attach(ctx, k, to, opts)
}

func (f faultyTopics) Subscribe(ctx context.Context, by, name string, since topic.Since, ready func(*topic.Subscription)) (*topic.Subscription, topic.Beginning, error) {
	switch name {
	case "reader":
		panic("a fault of the edge, where a frame is handled") //nolint:forbidigo // the fault that is tested
	case "writer":
		return nil, topic.Beginning{}, nil // the writer does not know what to do with it
	}
	return f.Topics.Subscribe(ctx, by, name, since, ready)
}

func TestPanicEndsItsConnectionAlone(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, nil, func(o *edge.TenantOptions) {
		o.Inbox, o.Topics = faultyInbox{o.Inbox}, faultyTopics{o.Topics}
	})
	neighbour := w.connect()
	message := `{"type":"x","id":"1","toDeviceId":"phone","requiresAck":true,"payload":1}`
	for _, c := range []struct{ name, device, frames string }{
		{"where the read loop handles a frame", "reader", `{"type":"subscribe","id":"s","payload":{"topic":"reader"}}`},
		{"in the writer", "writer", `{"type":"subscribe","id":"s","payload":{"topic":"writer"}}`},
		{"in a goroutine of the connection", "repeats", "[" + message + "," + message + "]"},
		{"at registration", "faulty", ""},
	} {
		before := w.count("rccs_connection_panics_total")
		d := w.dial()
		w.register(d, "alice/"+c.device)
		if c.frames != "" {
			if kind, body := d.Next(); kind != "ack" {
				t.Fatalf("%s: registered with %s %s", c.name, kind, body)
			}
			d.Send(c.frames)
		}
		if code := d.CloseCode(); code != websocket.CloseInternalServerErr {
			t.Errorf("%s: closed with %d, want 1011", c.name, code)
		}
		eventually(t, c.name+": the connection is gone", func() bool { return w.edge.Connections() == 1 })
		if w.count("rccs_connection_panics_total") == before {
			t.Errorf("%s: the panic was not counted", c.name)
		}
	}
	neighbour.Send(`{"type":"heartbeat","id":"still here"}`)
	for {
		if kind, body := neighbour.Next(); kind == "ack" && strings.Contains(body, "still here") {
			return
		}
	}
}

// framesOfDevices has one frame of each thing that a device can ask for.
var framesOfDevices = map[string]string{
	"subscribe":                `{"type":"subscribe","id":"x","payload":{"topic":"t"}}`,
	"subscribe since a time":   `{"type":"subscribe","id":"x","payload":{"topic":"t","since":"2025-11-28T14:00:00Z"}}`,
	"subscribe, odd offset":    `{"type":"subscribe","id":"x","payload":{"topic":"t","since":"2026-11-28T14:00:00+24:00"}}`,
	"subscribe since seq":      `{"type":"subscribe","id":"x","payload":{"topic":"t","since":4503599627370500}}`,
	"subscribe since the last": `{"type":"subscribe","id":"x","payload":{"topic":"t","since":"last"}}`,
	"unsubscribe":              `{"type":"unsubscribe","id":"x","payload":{"topic":"t"}}`,
	"publish":                  `{"type":"publish","id":"x","payload":{"topic":"t","data":1}}`,
	"history of a topic":       `{"type":"history","id":"x","payload":{"topic":"t"}}`,
	"history of the inbox":     `{"type":"history","id":"x","payload":{"inbox":true}}`,
	"device_list":              `{"type":"device_list","id":"x"}`,
	"device_status":            `{"type":"device_status","id":"x","payload":{"status":"busy"}}`,
	"heartbeat":                `{"type":"heartbeat","id":"x"}`,
	"request":                  `{"type":"request","id":"x","toDeviceId":"phone","payload":{"method":"m","timeoutMs":1000}}`,
	"response":                 `{"type":"response","id":"x","correlationId":"y","payload":{"result":1}}`,
	"ack":                      `{"type":"ack","payload":{"seq":1}}`,
	"ack up to":                `{"type":"ack","payload":{"upTo":1}}`,
	"cancel":                   `{"type":"ack","id":"x","payload":{"cancel":"y"}}`,
	"unregister":               `{"type":"device_unregister","id":"x"}`,
	"forget":                   `{"type":"device_unregister","id":"x","payload":{"forget":true}}`,
	"message to a device":      `{"type":"m","id":"x","toDeviceId":"phone","payload":1}`,
	"message to all":           `{"type":"m","id":"x","to":{},"payload":1}`,
	"message to any":           `{"type":"m","id":"x","to":{"mode":"any"},"payload":1}`,
	"message that waits":       `{"type":"m","id":"x","to":{"deviceType":"desktop","mode":"any"},"payload":1}`,
	"message of a task":        `{"type":"task_start","id":"x","payload":{"taskId":"t"}}`,
	"message to services":      `{"type":"m","id":"x","to":{"service":true},"payload":1}`,
	"delayed message":          `{"type":"m","id":"x","toDeviceId":"phone","deliverAt":"2026-12-01T00:00:00Z","payload":1}`,
	"handoff":                  `{"type":"device_handoff","id":"x","toDeviceId":"phone","payload":1}`,
	"ephemeral message":        `{"type":"m","id":"x","toDeviceId":"phone","ephemeral":true,"requiresAck":true,"payload":1}`,
	"registration again":       `{"type":"device_register","id":"x","payload":{"authToken":"none"}}`,
}

// Whatever a device asks for while the store is away, the edge goes on: the
// device gets an answer, or an error that says to try again, or is closed.
func TestEveryFrameIsHandledWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	for how, away := range map[string]func(*world){
		"its streams are gone": func(w *world) {
			js, err := jetstream.New(w.env.Conn(w.t), jetstream.WithDefaultTimeout(within))
			check(w.t, err)
			for _, name := range []string{
				layout.StreamInbox, layout.StreamCursor, subjects.StreamTopic, subjects.StreamLater, layout.StreamRoute, subjects.StreamUp,
				subjects.StreamEvent, "KV_" + layout.BucketTasks, "KV_" + layout.BucketSessions, "KV_" + layout.BucketDevices,
			} {
				if err := js.DeleteStream(w.t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					w.t.Fatal(err)
				}
			}
		},
		"its server was killed": func(w *world) { w.env.Kill() },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.connect()
			devices := map[string]*device{}
			for name := range framesOfDevices {
				d := w.dial()
				w.register(d, "alice/"+strings.NewReplacer(" ", "-", ",", "").Replace(name))
				if kind, body := d.Next(); kind != "ack" {
					t.Fatalf("registered with %s %s", kind, body)
				}
				devices[name] = d
			}
			away(w)
			for name, d := range devices {
				d.Send("[" + framesOfDevices[name] + `,{"type":"heartbeat","id":"beat"}]`)
			}
			for name, d := range devices {
				d.servedUntilClosed(name)
			}
			if n := w.count("rccs_connection_panics_total"); n != 0 {
				t.Errorf("%v panics", n)
			}
			w.dial() // the edge still serves
		})
	}
}

// A device that asks for what must be read from the store hears at once that no
// server is there, and what it sends behind that is served.
func TestSubscribingHoldsNothingUpWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	var core *nats.Conn
	w := newWorldOf(t, nil, func(of *edge.TenantOptions) { core = of.Core })
	d := w.connect()
	w.env.Kill()
	eventually(t, "the edge notices", func() bool { return !core.IsConnected() })
	const each = 20 // together they would wait far longer than this test does
	for range each {
		d.Send(`[{"type":"subscribe","id":"s","payload":{"topic":"t"}},{"type":"history","id":"h","payload":{"inbox":true}}]`)
	}
	d.Send(`{"type":"heartbeat","id":"beat"}`)
	for began, n := time.Now(), 0; n < 2*each; n++ {
		if time.Since(began) > within {
			t.Fatalf("%d of %d are answered after %s", n, 2*each, within)
		}
		if kind, body := d.Next(); kind != "error" || !strings.Contains(body, "UNAVAILABLE") || !strings.Contains(body, "retryAfterMs") {
			t.Fatalf("told %s %s", kind, body)
		}
	}
	if kind, body := d.Next(); kind != "ack" || !strings.Contains(body, "beat") {
		t.Errorf("the heartbeat is answered %s %s", kind, body)
	}
}

// servedUntilClosed reads until the heartbeat behind a frame is answered, or
// the connection is closed as an edge closes one.
func (d *device) servedUntilClosed(name string) {
	d.t.Helper()
	check(d.t, d.SetReadDeadline(time.Now().Add(2*within)))
	for {
		_, data, err := d.ReadMessage()
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
			if closed.Code == websocket.CloseAbnormalClosure || closed.Code == websocket.CloseInternalServerErr {
				d.t.Errorf("%s: closed with %d", name, closed.Code)
			}
			return
		}
		if err != nil {
			d.t.Errorf("%s: %v", name, err)
			return
		}
		if strings.Contains(string(data), `"originalMessageId":"beat"`) {
			return
		}
	}
}
