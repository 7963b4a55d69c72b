package backup_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Delayed messages that were delivered before a backup are not delivered again
// after its restore, be they in the inbox still or purged from it, and the epochs
// say that sequences may repeat.
func TestDelayedMessagesAreNotDeliveredAgainAfterARestore(t *testing.T) {
	t.Parallel()
	for _, purged := range []bool{false, true} {
		t.Run(fmt.Sprintf("purged %t", purged), func(t *testing.T) {
			t.Parallel()
			delayedAndRestored(t, purged)
		})
	}
}

func delayedAndRestored(t *testing.T, purged bool) {
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	phone, desktop := a.token("alice/phone"), a.token("alice/desktop")
	p, d := a.device(phone), a.device(desktop)
	const n = 5
	for i := range n {
		_, err := d.SendJSON(soon(t), "note", i, client.To("phone"), client.WithDeliverAt(time.Now().Add(300*time.Millisecond)), client.WithID(strconv.Itoa(i)))
		check(t, err)
	}
	var last uint64
	for _, m := range receive(t, p, n) {
		m.Ack()
		last = max(last, m.Seq)
	}
	delivered := time.Now()
	eventually(t, "all is acknowledged", func() bool { return a.acknowledged("alice/phone", last) })
	check(t, p.Close())
	check(t, d.Close())
	if purged {
		eventually(t, "the inbox stream must have taken what was due by now", func() bool { return time.Since(delivered) > backup.TakenWithin })
		inbox, err := a.js.Stream(soon(t), layout.StreamInbox)
		check(t, err)
		check(t, inbox.Purge(soon(t)))
	}
	path, _ := a.save(backup.SaveOptions{})
	a.stop()

	b := restored(t, path)
	was := b.inbox().LastSeq
	p = b.device(phone)
	b.send("alice/phone", `"next"`)
	for _, m := range receive(t, p, 1) {
		if string(m.Payload) != `"next"` {
			t.Errorf("%s comes again, redelivered: %t", m.Payload, m.Redelivered)
		}
	}
	if got := b.inbox().LastSeq; got != was+1 {
		t.Errorf("the inbox goes up to %d, want %d: what was due was taken again", got, was+1)
	}
	for _, name := range []string{layout.StreamInbox, subjects.StreamTopic} {
		stream, err := b.js.Stream(soon(t), name)
		check(t, err)
		if now := stream.CachedInfo().Config.Metadata[epoch.Metadata]; now == "" {
			t.Errorf("the epoch of %s is the one before", name)
		}
	}
}

// nobodyIsOnline waits until the coordinator knows that all devices have left.
func (h *home) nobodyIsOnline() {
	h.tb.Helper()
	eventually(h.tb, "all devices are offline", func() bool {
		m, err := h.nc.RequestWithContext(soon(h.tb), subjects.CoordinatorEndpoint("sessions"), nil)
		check(h.tb, err)
		var online struct{ Sessions []struct{} }
		check(h.tb, json.Unmarshal(m.Data, &online))
		return len(online.Sessions) == 0
	})
}

// What waited when a backup was made, for its time or for a suitable device, and was
// delivered since, is marked redelivered when it is delivered again after a restore,
// as what waited in an inbox is. What is delayed later is not.
func TestWhatWaitedAtABackupIsMarkedAfterItsRestore(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	phone, desktop := a.token("alice/phone"), a.token("alice/desktop")
	p, d := a.device(phone), a.device(desktop)
	check(t, p.Close())
	due := time.Now().Add(1500 * time.Millisecond)
	send := func(d *client.Client, id string, opts ...client.SendOption) {
		t.Helper()
		_, err := d.SendJSON(soon(t), "note", id, append(opts, client.WithID(id))...)
		check(t, err)
	}
	send(d, "stored", client.To("phone"))
	send(d, "delayed", client.To("phone"), client.WithDeliverAt(due))
	send(d, "far", client.To("phone"), client.WithDeliverAt(due.Add(time.Hour)))
	check(t, d.Close())
	a.nobodyIsOnline() // the desktop would be given what is for any
	_, err := a.js.PublishMsg(soon(t), &nats.Msg{
		Subject: "rccs.route.alice.any", Data: []byte(`"any"`), Header: nats.Header{subjects.HeaderID: {"any"}},
	})
	check(t, err)
	path, _ := a.save(backup.SaveOptions{})
	a.stop()
	eventually(t, "it is due", func() bool { return time.Now().After(due) })

	b := restored(t, path)
	p = b.device(phone)
	want := map[string]bool{"stored": true, "delayed": true, "any": true}
	take := func() {
		t.Helper()
		for _, m := range receive(t, p, len(want)) {
			redelivered, known := want[m.ID]
			if !known || m.Redelivered != redelivered || string(m.Payload) != strconv.Quote(m.ID) {
				t.Errorf("%s %s comes redelivered: %t", m.ID, m.Payload, m.Redelivered)
			}
			delete(want, m.ID)
			m.Ack()
		}
	}
	take()
	d = b.device(desktop)
	send(d, "new", client.To("phone"))
	send(d, "soon", client.To("phone"), client.WithDeliverAt(time.Now().Add(100*time.Millisecond)))
	want = map[string]bool{"new": false, "soon": false}
	take()
	later, err := b.js.Stream(soon(t), subjects.StreamLater)
	check(t, err)
	info, err := later.Info(soon(t), jetstream.WithSubjectFilter(subjects.Scope{User: "alice"}.Laters()))
	check(t, err)
	if len(info.State.Subjects) != 1 {
		t.Fatalf("%v wait, want one message", info.State.Subjects)
	}
	for subject := range info.State.Subjects {
		far, err := later.GetLastMsgForSubject(soon(t), subject)
		check(t, err)
		if far.Header.Get(subjects.HeaderID) != "far" || far.Header.Get("Nats-Schedule") == "" {
			t.Errorf("what is not due yet has the header %v", far.Header)
		}
	}
}
