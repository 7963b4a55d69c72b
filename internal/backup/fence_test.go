package backup_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

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
	for _, m := range receive(t, p, n) {
		m.Ack()
	}
	delivered := time.Now()
	eventually(t, "all is acknowledged", func() bool {
		stream, err := a.js.Stream(soon(t), layout.StreamCursor)
		check(t, err)
		m, err := stream.GetLastMsgForSubject(soon(t), layout.Cursor(subjects.Address{User: "alice", Device: "phone"}.Key()))
		return err == nil && len(m.Data) > 0 && a.inbox().Msgs >= n
	})
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
