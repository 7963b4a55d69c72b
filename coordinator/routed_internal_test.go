package coordinator

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/reader"
)

// What the stream drops by its age would go without a word: its sender is told before.
func TestTheEndOfAMessageIsBeforeRetentionTakesIt(t *testing.T) {
	t.Parallel()
	stored := time.Now()
	for _, keeps := range []time.Duration{time.Second, time.Hour, 7 * 24 * time.Hour} {
		m, err := newRouted(reader.Entry{Subject: "rccs.route.alice.any", Seq: 1, Time: stored.UnixNano()}, keeps)
		if err != nil {
			t.Fatal(err)
		}
		if left := stored.Add(keeps).Sub(m.ends); left < keeps/20 && left < 30*time.Second {
			t.Errorf("of a stream that keeps messages for %s the last %s are left", keeps, left)
		}
	}
}
