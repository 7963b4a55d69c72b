package coordinator

import (
	"sync"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// waitingFetches are the fetches that wait for something to come: one a device.
// A newer one ends the older, whose requester most likely is gone.
type waitingFetches struct {
	mu  sync.Mutex
	all map[subjects.Key]*time.Timer
}

// begin makes a fetch the one of its device. It is to end when the channel says
// so: after its time, or when a newer one comes. done is to be called when it is
// over.
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
