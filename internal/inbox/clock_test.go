package inbox_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// The clock of the stream's leader alone is set ahead, and NATS forgets the ids of
// messages. What is stored then may be there already, so no device takes it for new.
func TestWhatIsStoredAfterTheClockOfTheLeaderWasSetAheadIsMarked(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 10)
	s.put(phone, subjects.Normal, 0, 1)
	expect(t, d.receive(1), "0")
	if s.hub.Forgetful() {
		t.Error("no clock was set, and the store is said to have forgotten ids")
	}
	s.hub.StoreWasBehind(time.Hour)
	s.put(phone, subjects.Normal, 1, 1)
	if got := d.receive(1); got[0].Value(subjects.HeaderRedelivered) != "true" {
		t.Errorf("got %s, not marked", bodies(got))
	}
	if !s.hub.Forgetful() {
		t.Error("what is sent from here on is not marked")
	}
}
