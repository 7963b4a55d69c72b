package inbox_test

import (
	"testing"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

func TestEpochStaysOverARestartAndChangesWhenSequencesMayComeAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 3)
	was := s.hub.Epoch()
	s.restart()
	if got := s.hub.Epoch(); got != was || was == "" {
		t.Errorf("the epoch is %q after a restart, was %q", got, was)
	}
	if err := epoch.Renew(t.Context(), s.js, layout.StreamInbox); err != nil { // as a restore does
		t.Fatal(err)
	}
	s.attach(phone, 10)
	restored := s.hub.Epoch()
	if restored == was {
		t.Error("the epoch is the same after a restore")
	}
	s.stop()
	if _, err := s.js.Publish(t.Context(), layout.Watermark, []byte(`{"head":1000}`)); err != nil { // which the stream never had
		t.Fatal(err)
	}
	s.start(nil)
	if got := s.hub.Epoch(); got == restored {
		t.Error("the epoch is the same after the stream lost its end")
	}
}
