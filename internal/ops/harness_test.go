package ops_test

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

var check = testkit.Check

var (
	phone   = subjects.Address{User: "alice", Device: "my.phone"}
	desktop = subjects.Address{User: "alice", Device: "desktop"}
	bob     = subjects.Address{User: "bob", Device: "phone"}
)

// place is a server with the streams of RCCS, and an operator on it.
type place struct {
	t   testing.TB
	env *natstest.Env
	js  jetstream.JetStream
	*ops.Tenant
	patience time.Duration // of the doctor; 0: its own
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{t: t, env: natstest.Server(t)}
	p.js = natstest.Streams(t, p.env.Conn(t))
	p.Tenant = open(t, p.env)
	return p
}

func open(t testing.TB, env *natstest.Env) *ops.Tenant {
	t.Helper()
	tenant, err := ops.Open(ops.Options{Dial: env.Dialer()})
	check(t, err)
	t.Cleanup(tenant.Close)
	return tenant
}

// store puts a message into an inbox and returns its sequence.
func (p *place) store(to subjects.Address, lane subjects.Lane, id string, headers ...string) uint64 {
	p.t.Helper()
	h := nats.Header{}
	if id != "" {
		h[subjects.HeaderID] = []string{id}
	}
	for i := 0; i < len(headers); i += 2 {
		h[headers[i]] = []string{headers[i+1]}
	}
	ack, err := p.js.PublishMsg(p.t.Context(), &nats.Msg{Subject: subjects.Inbox(to.Key(), lane), Header: h, Data: []byte(`{"id":"` + id + `"}`)})
	check(p.t, err)
	return ack.Sequence
}

// acknowledge stores a cursor as an edge does.
func (p *place) acknowledge(a subjects.Address, c inbox.Cursor) {
	p.t.Helper()
	_, err := p.js.Publish(p.t.Context(), layout.Cursor(a.Key()), c.Append(nil))
	check(p.t, err)
}

// register stores a device's record as an edge does.
func (p *place) register(a subjects.Address, record string) {
	p.t.Helper()
	_, err := p.js.Publish(p.t.Context(), layout.DeviceSubject(a.Key()), []byte(record))
	check(p.t, err)
}

// missed are the ids of what a device has missed.
func (p *place) missed(a subjects.Address) (ids []string) {
	p.t.Helper()
	for m, err := range p.Missed(p.t.Context(), a) {
		check(p.t, err)
		ids = append(ids, m.ID)
	}
	return ids
}

// stored are all messages of an inbox in the order of storage.
func (p *place) stored(a subjects.Address) (msgs []*nats.Msg) {
	p.t.Helper()
	c, err := p.js.CreateConsumer(p.t.Context(), layout.StreamInbox, jetstream.ConsumerConfig{
		FilterSubject: subjects.Scope(a).Inboxes(), AckPolicy: jetstream.AckNonePolicy,
	})
	check(p.t, err)
	for left := c.CachedInfo().NumPending; left > 0; left-- {
		m, err := c.Next(jetstream.FetchMaxWait(testkit.Patience))
		check(p.t, err)
		msgs = append(msgs, &nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
	}
	return msgs
}

// flood stores messages, many on their way at a time.
func (p *place) flood(each func(put func(*nats.Msg))) {
	p.t.Helper()
	pub, err := inbox.NewPublisher(p.env.Dialer(), nil)
	check(p.t, err)
	defer pub.Stop()
	var flying sync.WaitGroup
	var failed atomic.Pointer[error]
	slots := make(chan struct{}, 1000) // of all at once, a busy machine may store the last too late
	each(func(m *nats.Msg) {
		slots <- struct{}{}
		flying.Add(1)
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header.Set(jetstream.MsgIDHeader, rand.Text()) // what is sent again is stored once
		pub.Publish(m, func(_ inbox.Receipt, err error) {
			if err != nil {
				failed.Store(&err)
			}
			<-slots
			flying.Done()
		})
	})
	flying.Wait()
	if err := failed.Load(); err != nil {
		p.t.Fatal(*err)
	}
}

// fill stores n messages to each of some devices, see numbered.
func (p *place) fill(devices, n int) {
	p.t.Helper()
	p.flood(func(put func(*nats.Msg)) {
		for i := range n {
			for d := range devices {
				put(&nats.Msg{
					Subject: subjects.Inbox(numbered(d).Key(), subjects.Lane(i%subjects.Lanes)),
					Header:  nats.Header{subjects.HeaderID: {fmt.Sprintf("m%d-%d", d, i)}}, Data: []byte(`{}`),
				})
			}
		}
	})
}

// numbered are devices d0, d1 … of the users u0, u1 …, ten devices a user.
func numbered(d int) subjects.Address {
	return subjects.Address{User: subjects.UserID(fmt.Sprintf("u%d", d/10)), Device: subjects.DeviceID(fmt.Sprintf("d%d", d))}
}
