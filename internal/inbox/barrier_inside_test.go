package inbox

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A server that was paused still takes itself for the leader, and lacks what was
// stored meanwhile. Another edge may have sent that to the device that attaches.
func TestAServerThatWasPausedDoesNotSayWhatMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	nc := env.Conn(t)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	for name, subject := range map[string][]string{layout.StreamInbox: layout.AllInboxes(), layout.StreamCursor: {layout.AllCursors()}} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: subject, AllowDirect: true})
		testkit.Check(t, err)
	}
	for range 5 {
		_, err := js.Publish(t.Context(), "rccs.inbox.alice.phone.normal", nil)
		testkit.Check(t, err)
	}
	_, err = js.Publish(t.Context(), layout.Watermark, appendWatermark(4)) // of an edge that is gone
	testkit.Check(t, err)
	h := threeCopies(t, env)
	asked := env.Paused(layout.StreamInbox, 3, 4)
	if last, err := h.refreshState(t.Context()); err != nil || last != 5 || asked.Load() <= 4 {
		t.Errorf("after %d answers the stream ends at %d (%v), want 5: those that lag were believed", asked.Load(), last, err)
	}
}
