package inbox

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/wake"
)

// watermark is what is stored under [layout.Watermark]: a sequence that no stored
// cursor is above.
type watermark struct {
	Head uint64 `json:"head"`
}

func parseWatermark(data []byte) (head uint64, err error) {
	var mark watermark
	if err := json.Unmarshal(data, &mark); err != nil {
		return 0, fmt.Errorf("inbox: stored watermark: %w", err)
	}
	return mark.Head, nil
}

func appendWatermark(head uint64) []byte { return fmt.Appendf(nil, `{"head":%d}`, head) }

// watermarkWriter stores the watermark: before cursors that are above it, and soon
// after the hub's head has risen.
type watermarkWriter struct {
	publish *Publisher
	due     wake.Signal // of the goroutine that calls isDue
	log     *slog.Logger
	rose    atomic.Bool // the head has risen since the last watermark

	// Owned by the goroutine that calls isDue: when the head was marked last, and
	// that a timer will wake it for the next time.
	markedAt time.Time
	waiting  bool

	stored atomic.Uint64 // the last one published; 0 if the store may not have it
	mu     sync.Mutex    // orders the publishes
}

// markPause is the shortest time between two watermarks while no cursors are
// stored.
const markPause = 50 * time.Millisecond

// headRose has the watermark follow soon, whether or not a cursor is stored, so
// that a hub that is started again finds out if the end of the stream is gone.
func (w *watermarkWriter) headRose() {
	if !w.rose.Load() && w.rose.CompareAndSwap(false, true) {
		w.due.Set()
	}
}

// isDue reports whether the watermark has to be stored because the head has
// risen. If it is too early, a timer gives the signal again.
func (w *watermarkWriter) isDue() bool {
	if !w.rose.Load() {
		return false
	}
	if wait := markPause - time.Since(w.markedAt); wait > 0 {
		if !w.waiting {
			w.waiting = true
			time.AfterFunc(wait, w.due.Set)
		}
		return false
	}
	w.rose.Store(false)
	w.markedAt, w.waiting = time.Now(), false
	return true
}

// raise publishes the watermark, if it is lower than head. It does not wait for
// the answer: a publisher's messages are stored in order.
func (w *watermarkWriter) raise(head uint64) {
	if head <= w.stored.Load() {
		return
	}
	w.mu.Lock() // a lower one is not stored after a higher one
	defer w.mu.Unlock()
	if head <= w.stored.Load() {
		return
	}
	w.stored.Store(head)
	w.publish.Publish(&nats.Msg{Subject: layout.Watermark, Data: appendWatermark(head)}, func(_ Receipt, err error) {
		if err != nil {
			w.stored.Store(0) // the next flush tries again
			w.log.Warn("watermark not stored", "err", err)
		}
	})
}
