package coordinator

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// waitingFetches are the fetches that wait for a message, one a device. A newer
// one ends the older, whose requester is most likely gone.
type waitingFetches struct {
	mu  sync.Mutex
	all map[subjects.Key]*time.Timer
}

// begin makes a fetch the waiting one of its device. The fetch has to end when
// end fires: after its time, or when a newer one comes. Call done when it has
// ended.
func (w *waitingFetches) begin(k subjects.Key, wait time.Duration) (end <-chan time.Time, done func()) {
	mine := time.NewTimer(wait)
	w.mu.Lock()
	defer w.mu.Unlock()
	if older := w.all[k]; older != nil {
		older.Reset(0)
	}
	if w.all == nil {
		w.all = make(map[subjects.Key]*time.Timer)
	}
	w.all[k] = mine
	return mine.C, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		mine.Stop()
		if w.all[k] == mine {
			delete(w.all, k)
		}
	}
}
