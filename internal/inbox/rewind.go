package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A power loss can take the end of the inbox stream and leave cursors that
// were stored later. Sequences are then given out a second time, and a cursor
// above the stream's end would count messages as acknowledged that the device never saw. So
// the writer stores a watermark, the hub's head, in the cursor stream before
// each lot of cursors: whatever survives, no cursor is above the watermark.
// A hub that finds the watermark above the stream's end when it starts looks
// at every cursor and cuts back those that are.

// watermark is what is stored under [subjects.Watermark].
type watermark struct {
	Head uint64 `json:"head"`
}

// checkRewind cuts cursors back if the stream has lost its end.
func (h *Hub) checkRewind(ctx context.Context, stored *direct.Stored) error {
	if stored == nil {
		return nil
	}
	var mark watermark
	if err := json.Unmarshal(stored.Data, &mark); err != nil {
		return fmt.Errorf("inbox: stored watermark: %w", err)
	}
	last := h.reader.Last()
	if mark.Head <= last {
		return nil
	}
	h.opts.Logger.Error("the inbox stream has lost its end, cutting cursors back", "was", mark.Head, "is", last)
	if err := epoch.Renew(ctx, h.js, subjects.StreamInbox); err != nil {
		return err
	}
	return h.rewind(ctx, last)
}

// rewind stores every cursor that is above last again, cut back to it. The
// watermark comes after them, so that an interrupted rewind is done again.
func (h *Hub) rewind(ctx context.Context, last uint64) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	store := func(subject string, data []byte) {
		wg.Add(1)
		h.opts.Publish.Publish(&nats.Msg{Subject: subject, Data: data}, func(_ Receipt, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = fmt.Errorf("inbox: cut a cursor back: %w", err)
			}
		})
	}
	type aged struct {
		Cursor
		stored time.Time
	}
	all := make(map[subjects.Key]aged)
	r, err := reader.New(reader.Options{
		Conn: h.opts.Read, Stream: subjects.StreamCursor, FromStart: true, Logger: h.opts.Logger,
		Handle: func(e reader.Entry) {
			key, ok := subjects.ParseCursor(e.Subject)
			if !ok {
				return
			}
			if c, err := ParseCursor(e.Data); err == nil && c.top() > last {
				all[key] = aged{c, time.Unix(0, e.Time)}
			}
		},
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := r.Stop(ctx); err != nil {
		return err
	}
	for key, c := range all {
		c.UpTo, c.Waiting = min(c.UpTo, last), [subjects.Lanes]uint64{} // counted anew
		if err := h.cutBack(ctx, key, &c.Cursor, c.stored, last); err != nil {
			return err
		}
		store(subjects.Cursor(key), c.Append(nil))
	}
	wg.Wait()
	if failed == nil {
		store(subjects.Watermark, appendWatermark(last))
		wg.Wait()
	}
	return failed
}

// cutBack brings a cursor back to the stream's end, or to where what was
// stored after the cursor begins: that is new, whatever its sequence.
func (h *Hub) cutBack(ctx context.Context, key subjects.Key, c *Cursor, stored time.Time, last uint64) error {
	for n := range c.Sent {
		if c.Sent[n] <= last {
			continue
		}
		end := last
		after := &direct.Request{StartTime: &stored, NextFor: subjects.Inbox(key, subjects.Lane(n)), Batch: 1}
		got, _, err := h.fetch.Get(ctx, subjects.StreamInbox, after)
		if err != nil {
			return fmt.Errorf("inbox: cut the cursor of %s back: %w", key, err)
		}
		if len(got) > 0 {
			end = min(end, got[0].Seq-1)
		}
		c.cut(subjects.Lane(n), end)
	}
	return nil
}

func appendWatermark(head uint64) []byte { return fmt.Appendf(nil, `{"head":%d}`, head) }
