package edge

import (
	"context"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/internal/wsconn"
	"github.com/rccs-io/rccs/subjects"
)

// sink is where the read path ends: it takes messages as a store would, and
// answers at once.
type sink struct {
	Inbox
	published int
}

func (s *sink) Admit(context.Context, subjects.Key, int) error { return nil }

func (s *sink) Forgetful() bool { return false }

func (s *sink) Publish(_ *nats.Msg, done func(inbox.Receipt, error)) {
	s.published++
	done(inbox.Receipt{Seq: 1, Free: true}, nil)
}

func (s *sink) PublishBatch(_ []*nats.Msg, done func(inbox.BatchReceipt, error)) {
	s.published++
	done(inbox.BatchReceipt{First: 1}, nil)
}

// paper is what frames are written to.
type paper struct{ written int }

func (p *paper) Text(frame []byte) error {
	p.written += len(frame)
	return nil
}

func (*paper) Flush() error { return nil }

// alone is the connection of alice's phone, beside her registered desktop. What
// it sends goes to the sink.
func alone(tb testing.TB) (*conn, *sink) {
	tb.Helper()
	env := natstest.Server(tb)
	natstest.Streams(tb, env.Conn(tb))
	devices, err := roster.New(roster.Options{
		Read: env.Conn(tb), Edge: &roster.EdgeInfo{Name: "test"},
		Put: func(_ *nats.Msg, done func(uint64, error)) { done(1, nil) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, device := range []subjects.DeviceID{"phone", "desktop"} {
		devices.Register(subjects.Address{User: "alice", Device: device}.Key(), roster.Record{Type: "test"})
	}
	limits := Limits{Rates: send.Rates{DeviceMessages: 1e9, DeviceBytes: 1e12, UserMessages: 1e9, UserBytes: 1e12}}
	s, err := New(Options{Limits: limits, Verifier: new(auth.Verifier), Tenant: func(string) (*Tenant, bool) { return nil, false }})
	if err != nil {
		tb.Fatal(err)
	}
	out := new(sink)
	tenant, err := NewTenant(tb.Context(), TenantOptions{Inbox: out, Publisher: out, Roster: devices, Topics: Topics(new(topic.Hub)), Core: env.Conn(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(tenant.Close)
	c := newConn(s, "")
	c.sock = new(wsconn.Conn)
	phone := subjects.Address{User: "alice", Device: "phone"}
	c.tenant, c.who, c.key, c.window = tenant, holder{Address: phone}, phone.Key(), 256
	c.authenticated, c.mailbox, c.sess = true, new(inbox.Mailbox), new(roster.Session)
	return c, out
}

// toDesktop is a message as a phone sends it.
const toDesktop = `{"id":"018f6f2a-6f0e-7c3a-9d55-2b1f0f6d8a11","type":"user_message","toDeviceId":"desktop",` +
	`"payload":{"text":"the build on main is green, shall I deploy?","choices":["yes","no"]},"timestamp":"2026-01-31T12:00:00.123Z"}`

// readPath handles one message, to the publisher.
func readPath(tb testing.TB) func() {
	c, out := alone(tb)
	frame := []byte(toDesktop)
	return func() {
		before := out.published
		if c.Message(websocket.TextMessage, frame); out.published != before+1 {
			tb.Fatal("a message was not published")
		}
	}
}

// storedMessage is one as the hub hands it out.
func storedMessage() envelope.Delivery {
	phone := subjects.Address{User: "alice", Device: "phone"}
	return envelope.Delivery{Message: &envelope.Message{
		Key: phone.Key(), Lane: subjects.Normal, Seq: 123456, Stored: time.Now().UnixNano(),
		Header: nats.Header{
			subjects.HeaderID: {"018f6f2a-6f0e-7c3a-9d55-2b1f0f6d8a11"}, subjects.HeaderType: {"user_message"},
			subjects.HeaderFrom: {"desktop"}, subjects.HeaderTimestamp: {"2026-01-31T12:00:00.123Z"},
		},
		Data: []byte(`{"text":"the build on main is green, shall I deploy?","choices":["yes","no"]}`),
	}}
}

// writePath writes one message that the inbox holds.
func writePath(tb testing.TB) func() {
	c, _ := alone(tb)
	w := new(paper)
	one := &burst{to: c.who.Address, max: c.maxFrame, deliveries: []envelope.Delivery{storedMessage()}}
	return func() {
		if err := c.writeBurst(w, one); err != nil {
			tb.Fatal(err)
		}
		c.delivered(nil, one)
	}
}

// BenchmarkReadPath: from the text of a frame to the publisher.
func BenchmarkReadPath(b *testing.B) { benchmarkPath(b, readPath(b)) }

// BenchmarkWritePath: from a stored message to the text of its frame.
func BenchmarkWritePath(b *testing.B) { benchmarkPath(b, writePath(b)) }

func benchmarkPath(b *testing.B, run func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}
