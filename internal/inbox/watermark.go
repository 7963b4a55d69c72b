package inbox

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
)

// markPause is the shortest time between two watermarks while no cursors are
// stored.
const markPause = 50 * time.Millisecond

// read is called when the head has risen. The watermark follows soon after,
// whether or not a cursor is stored, so that a hub that is started again finds
// out if the end of the stream is gone.
func (w *cursorWriter) read() {
	if !w.unmarked.Load() && w.unmarked.CompareAndSwap(false, true) {
		w.wake()
	}
}

// markDue reports whether the watermark has to be stored because the head has
// risen. If it is too early, a timer will wake run.
func (w *cursorWriter) markDue() bool {
	if !w.unmarked.Load() {
		return false
	}
	if wait := markPause - time.Since(w.markedAt); wait > 0 {
		if !w.markSoon {
			w.markSoon = true
			time.AfterFunc(wait, w.wake)
		}
		return false
	}
	w.unmarked.Store(false)
	w.markedAt, w.markSoon = time.Now(), false
	return true
}

// mark publishes the watermark, if it has risen. It does not wait for the answer:
// a publisher's messages are stored in order.
func (w *cursorWriter) mark(top uint64) {
	if top <= w.marked.Load() {
		return
	}
	w.markMu.Lock() // a lower one is not stored after a higher one
	defer w.markMu.Unlock()
	if top <= w.marked.Load() {
		return
	}
	w.marked.Store(top)
	w.publish.Publish(&nats.Msg{Subject: layout.Watermark, Data: appendWatermark(top)}, func(_ Receipt, err error) {
		if err != nil {
			w.marked.Store(0) // the next flush tries again
			w.log.Warn("watermark not stored", "err", err)
		}
	})
}
