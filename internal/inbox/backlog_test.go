package inbox_test

import (
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// What is gone of a large lane is counted in every copy. A device is attached before
// that is done, however long it takes: it would begin anew with each attempt.
func TestADeviceIsAttachedBeforeAllThatIsGoneIsCounted(t *testing.T) {
	t.Parallel()
	const waiting, gone = 600, 5 // more than one batch
	s := newSystemOn(t, natstest.Cluster(t, 3)[0], nil)
	s.copies(3)
	s.attach(phone, 1).mailbox.Detach()
	s.put(phone, subjects.Normal, 0, waiting)
	s.caughtUp()
	stream := must(s.js.Stream(t.Context(), layout.StreamInbox))
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(subjects.Inbox(phone, subjects.Normal)), jetstream.WithPurgeKeep(waiting-gone)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.start(nil)
	var (
		mu   sync.Mutex
		held []*nats.Msg
		done bool
	)
	refuse := func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"type":"io.nats.jetstream.api.v1.consumer_create_response","error":{"code":503,"err_code":10005,"description":"busy"}}`))
	}
	stop := s.env.Answer("$JS.API.CONSUMER.CREATE."+layout.StreamInbox+".*", func(_ *nats.Conn, m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if held = append(held, m); done {
			refuse(m)
		}
	})
	d := s.attachNow(phone, waiting)
	mu.Lock()
	if len(held) == 0 {
		t.Error("no copy was asked for")
	}
	done = true
	for _, m := range held {
		refuse(m)
	}
	mu.Unlock()
	stop()
	s.wantGap(d, wire.Gap{Lane: "normal", From: 1, To: gone, Count: gone, Reason: wire.ReasonRetention})
	expect(t, d.receive(waiting-gone), numbers(gone, waiting-gone))
	d.noGap()
}
