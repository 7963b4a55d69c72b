package roster_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

var (
	phone  = subjects.Address{User: "alice", Device: "my.phone"}.Key()
	tablet = subjects.Address{User: "alice", Device: "tablet"}.Key()
	other  = subjects.Address{User: "alice.my", Device: "phone"}.Key()
)

// place is a server with the bucket, and what a roster stores through.
type place struct {
	t    *testing.T
	env  *natstest.Env
	js   jetstream.JetStream
	puts atomic.Int32
	down atomic.Bool
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, env: natstest.Server(t)}
	p.js = natstest.Streams(t, p.env.Conn(t))
	return p
}

var errDown = errors.New("the store is away")

func (p *place) put(msg *nats.Msg, done func(uint64, error)) {
	if strings.HasPrefix(msg.Subject, "$KV."+layout.BucketDevices) {
		p.puts.Add(1)
	}
	if p.down.Load() {
		done(0, errDown)
		return
	}
	ack, err := p.js.PublishMsg(context.WithoutCancel(p.t.Context()), msg)
	if err != nil {
		done(0, err)
		return
	}
	done(ack.Sequence, nil)
}

func (p *place) roster() *roster.Roster {
	p.t.Helper()
	r, err := roster.New(roster.Options{Read: p.env.Conn(p.t), Put: p.put})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := r.Stop(context.WithoutCancel(p.t.Context())); err != nil {
			p.t.Error(err)
		}
	})
	return r
}

func TestRegistrationIsKnownHereAtOnceAndElsewhereSoon(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	here, there := p.roster(), p.roster()
	here.Register(phone, roster.Record{Type: "mobile", Capabilities: []byte(`{ "supportsFileSync": true }`)})
	if rec := here.Get(phone); rec == nil || rec.Type != "mobile" {
		t.Fatalf("here it is %+v", rec)
	}
	testkit.Eventually(t, "the other roster knows", func() bool { return there.Get(phone) != nil })
	if rec := there.Get(phone); string(rec.Capabilities) != `{"supportsFileSync":true}` {
		t.Errorf("elsewhere it is %s", rec.Capabilities)
	}
	if there.Get(tablet) != nil || there.Get(other) != nil {
		t.Error("another device is known that never registered")
	}
	if late := p.roster(); late.Get(phone) == nil || late.Len() != 1 {
		t.Error("a roster that starts later does not know it")
	}
}

func TestDevicesOfOneUser(t *testing.T) {
	t.Parallel()
	r := newPlace(t).roster()
	for _, k := range []subjects.Key{tablet, other, phone} {
		r.Register(k, roster.Record{})
	}
	if got := r.Devices(phone); len(got) != 2 || got[0] != phone || got[1] != tablet {
		t.Errorf("alice has %q", got)
	}
}

func TestUnchangedRegistrationIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.roster()
	for range 3 {
		r.Register(phone, roster.Record{Type: "mobile", Capabilities: []byte(`{"a": 1}`)})
	}
	r.Register(phone, roster.Record{Type: "mobile", Version: "2", Capabilities: []byte(`{"a":1}`)})
	r.Register(tablet, roster.Record{}) // stored behind the others
	testkit.Eventually(t, "all is stored", func() bool {
		return p.puts.Load() >= 3
	})
	if n := p.puts.Load(); n != 3 {
		t.Errorf("stored %d times", n)
	}
}

// A record that cannot be stored makes nobody unknown, and is stored when that
// is possible.
func TestFailedStoringKeepsTheDeviceKnown(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r, elsewhere := p.roster(), p.roster()
	p.down.Store(true)
	r.Register(phone, roster.Record{Version: "2"})
	if r.Get(phone) == nil {
		t.Fatal("the device is unknown")
	}
	p.down.Store(false)
	testkit.Eventually(t, "it is stored", func() bool { rec := elsewhere.Get(phone); return rec != nil && rec.Version == "2" })
}

func TestForgottenAndUnreadableEntries(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.roster()
	r.Register(phone, roster.Record{})
	elsewhere := p.roster()
	testkit.Eventually(t, "it is stored", func() bool { return elsewhere.Get(phone) != nil })
	kv, err := p.js.KeyValue(t.Context(), layout.BucketDevices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), layout.DeviceEntry(tablet), []byte("?")); err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), layout.DeviceEntry(phone)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is forgotten", func() bool { return r.Get(phone) == nil })
	if r.Get(tablet) != nil || r.Len() != 0 {
		t.Error("an unreadable entry is a device")
	}
}
