package share_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// clears has the whole streams cleared until the test ends.
func (a *tenant) clears() {
	a.t.Helper()
	s, err := share.New(share.Options{Conn: a.nc, Proof: a.proof, ClearEvery: 20 * time.Millisecond})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(s.Stop)
}

// used is how much a stream holds of what it may, in percent.
func (a *tenant) used(stream string) int {
	a.t.Helper()
	s, err := a.js.Stream(a.t.Context(), stream)
	if err != nil {
		a.t.Fatal(err)
	}
	info := s.CachedInfo()
	return int(info.State.Bytes * 100 / uint64(info.Config.MaxBytes))
}

// Many users fill the inboxes of a tenant, each below his own share, with
// messages that they have acknowledged. The oldest of these go, whose ever they
// are, and nothing that somebody waits for.
func TestWhatManyUsersHaveAcknowledgedMakesRoomForAll(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	const users, each, size = 45, 10, 25_000
	away := key("away", "phone")
	a.store(share.Inbox, away, size)
	for range each {
		for user := range users {
			a.store(share.Inbox, key(fmt.Sprint("user", user), "phone"), size)
		}
		a.store(share.Inbox, away, 100)
	}
	full := a.used(layout.StreamInbox)
	if full < 80 {
		t.Fatalf("the inboxes are %d %% full: too little for this test", full)
	}
	for user := range users { // all but the last
		a.acknowledge(key(fmt.Sprint("user", user), "phone"), uint64(1+(each-1)*(users+1)))
	}
	a.clears()
	testkit.Eventually(t, "room in the inboxes", func() bool { return a.used(layout.StreamInbox) <= 55 })
	if n := a.used(layout.StreamInbox); n < 40 {
		t.Errorf("the inboxes are %d %% full: more was removed than down to a half", n)
	}
	if n := a.stored(layout.StreamInbox, subjects.Inbox(away, subjects.Normal)); n != each+1 {
		t.Errorf("%d of %d messages are left of a device that has acknowledged none", n, each+1)
	}
	for user := range users {
		if a.stored(layout.StreamInbox, subjects.Inbox(key(fmt.Sprint("user", user), "phone"), subjects.Normal)) == 0 {
			t.Errorf("the message that device %d has not acknowledged is gone", user)
		}
	}
}

// Messages of many users to services go when every consumer has acknowledged
// them, and not before.
func TestWhatServicesHaveReadOfManyUsersMakesRoomForAll(t *testing.T) {
	t.Parallel()
	a := newTenant(t)
	const users, size = 36, 25_000
	c, err := a.js.CreateConsumer(t.Context(), subjects.StreamUp, jetstream.ConsumerConfig{Durable: "service", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	for user := range users {
		a.store(share.Up, key(fmt.Sprint("user", user), "phone"), size)
	}
	if full := a.used(subjects.StreamUp); full < 80 {
		t.Fatalf("the messages to services are %d %% full: too little for this test", full)
	}
	msgs, err := c.Fetch(users - 1)
	if err != nil {
		t.Fatal(err)
	}
	for m := range msgs.Messages() {
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a.clears()
	testkit.Eventually(t, "room in the messages to services", func() bool { return a.used(subjects.StreamUp) <= 55 })
	if last := key(fmt.Sprint("user", users-1), "phone"); a.stored(subjects.StreamUp, "rccs.up."+string(last)+".>") != 1 {
		t.Error("the message that no service has read is gone")
	}
}
