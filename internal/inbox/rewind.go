package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/damage"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// A power loss can take the end of the inbox stream and leave cursors that were
// stored later. The stream then gives out the same sequences again, and a cursor
// above its end would count messages as acknowledged that the device never saw.
// So before each batch of cursors the writer stores a watermark, the hub's head,
// in the cursor stream: whatever survives, no cursor is above the watermark. A
// hub that starts and finds the watermark above the stream's end looks at every
// cursor, and cuts back those above the end.

// checkRewind cuts cursors back if the stream has lost its end. counted is the
// sequence up to which every message is in some cursor.
func (h *Hub) checkRewind(ctx context.Context, stored *direct.Stored, counted uint64) error {
	if stored == nil {
		return nil
	}
	mark, err := parseWatermark(stored.Data)
	if err != nil {
		return err
	}
	last := h.reader.Last()
	if mark <= last {
		return nil
	}
	state, err := h.reader.StateFrom(ctx, mark)
	if err != nil {
		return err
	}
	if last = max(last, state.LastSeq); mark <= last {
		return nil
	}
	h.opts.Logger.Error("the inbox stream is damaged: it has lost its end; cutting cursors back", "was", mark, "is", last)
	if err := epoch.Renew(ctx, h.js, layout.StreamInbox); err != nil {
		return err
	}
	end := [2]uint64{last + 1, mark}
	if err := h.noteDamaged(ctx, end, max(counted, last)); err != nil {
		return err
	}
	return h.rewind(ctx, last, counted)
}

// noteDamaged adds a range to the stored damage, when the stream has lost its end.
// Messages in it above counted may have been any device's, and are in doubt.
func (h *Hub) noteDamaged(ctx context.Context, r [2]uint64, counted uint64) error {
	return h.addDamage(ctx, r, damage.Finding{First: r[0]}, func(d *damaged) {
		d.Doubts = AddDoubts(d.Doubts, [][2]uint64{r}, counted, time.Now(), true)
	})
}

// noteUnreadable adds a range in which a running server cannot read messages that
// it has. Their devices have counted them.
func (h *Hub) noteUnreadable(ctx context.Context, r [2]uint64) error {
	return h.addDamage(ctx, r, damage.Finding{First: r[0], Unreadable: true}, func(*damaged) {})
}

// addDamage adds a range, and what operators are told of it, to the stored damage.
func (h *Hub) addDamage(ctx context.Context, r [2]uint64, f damage.Finding, also func(*damaged)) error {
	f.Stream, f.At = layout.StreamInbox, time.Now().UTC()
	for range damageTries {
		err := h.tryAddDamage(ctx, r, f, also)
		if !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return fmt.Errorf("inbox: store what is damaged: %w", ErrMoved)
}

// damageTries bounds how often a finding is stored again when others have stored
// theirs meanwhile.
const damageTries = 20

func (h *Hub) tryAddDamage(ctx context.Context, r [2]uint64, f damage.Finding, also func(*damaged)) error {
	subject := layout.Damaged(layout.StreamInbox)
	found, err := h.cursors.last.Get(ctx, []string{subject})
	if err != nil {
		return err
	}
	var stored []byte
	revision := uint64(0)
	if found[0] != nil {
		stored, revision = found[0].Data, found[0].Seq
	}
	d, record := parseDamaged(stored), damage.Parse(stored)
	record.AddRange(r)
	d.Ranges = record.Ranges
	also(d)
	if err := errors.Join(record.Set("doubts", d.Doubts), record.AddFinding(f)); err != nil {
		return err
	}
	body, err := record.Bytes()
	if err != nil {
		return err
	}
	if err := h.opts.Publish.putLast(ctx, subject, body, revision); err != nil {
		return err
	}
	h.damaged.Store(d)
	return nil
}

// rewind cuts every cursor above last back to it and stores it again, and every
// mark of a purge: what is stored above last from now on was not purged, and what is
// gone there neither. The counted mark, which is at the sequence counted, is cut back
// with them. The watermark is stored after them, so that an interrupted rewind is
// repeated.
func (h *Hub) rewind(ctx context.Context, last, counted uint64) error {
	cursors, marks, err := h.readAbove(ctx, last)
	if err != nil {
		return err
	}
	writes := newAwaited()
	store := func(subject string, data []byte) {
		h.opts.Publish.Publish(&nats.Msg{Subject: subject, Data: data}, writes.add())
	}
	for key, c := range cursors {
		h.damaged.Load().tell(&c.Cursor, c.stored)
		c.UpTo = min(c.UpTo, last)
		if err := h.cutBack(ctx, key, &c.Cursor, c.stored, last); err != nil {
			return err
		}
		store(layout.Cursor(key), c.Append(nil))
	}
	for subject, mark := range marks {
		for n := range mark {
			mark[n] = min(mark[n], last)
		}
		body, err := json.Marshal(mark)
		if err != nil {
			return err
		}
		store(subject, body)
	}
	if counted > last {
		store(layout.Counted, appendCounted(last))
	}
	if err := writes.wait(ctx); err != nil {
		return fmt.Errorf("inbox: cut a cursor back: %w", err)
	}
	if err := h.opts.Publish.wait(ctx, &nats.Msg{Subject: layout.Watermark, Data: appendWatermark(last)}); err != nil {
		return fmt.Errorf("inbox: cut the watermark back: %w", err)
	}
	return nil
}

// storedCursor is a cursor, and when the store took it.
type storedCursor struct {
	Cursor
	stored time.Time
}

// readAbove returns the cursors that say something of sequences above last, and the
// marks of purges by subject.
func (h *Hub) readAbove(ctx context.Context, last uint64) (map[subjects.Key]storedCursor, map[string]purged, error) {
	cursors, marks := make(map[subjects.Key]storedCursor), make(map[string]purged)
	r, err := reader.New(reader.Options{
		Conn: h.opts.Read, Stream: layout.StreamCursor, Shard: h.opts.Shard, FromStart: true, Logger: h.opts.Logger,
		Handle: func(e reader.Entry) {
			if layout.IsPurged(e.Subject) {
				if mark := parsePurged(e.Data); slices.Max(mark[:]) > last {
					marks[e.Subject] = mark
				}
				return
			}
			key, ok := layout.ParseCursor(e.Subject)
			if !ok {
				return
			}
			if c, err := ParseCursor(e.Data); err == nil && c.top() > last {
				cursors[key] = storedCursor{c, time.Unix(0, e.Time)}
			}
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, nil, err
	}
	return cursors, marks, r.Stop(ctx)
}

// cutBack cuts a cursor back to the stream's end, or to before the first message
// that was stored later than the cursor: that message is new, whatever its
// sequence.
func (h *Hub) cutBack(ctx context.Context, key subjects.Key, c *Cursor, stored time.Time, last uint64) error {
	for n := range c.Sent {
		if c.Sent[n] <= last {
			continue
		}
		end := last
		after := &direct.Request{StartTime: &stored, NextFor: subjects.Inbox(key, subjects.Lane(n)), Batch: 1}
		got, _, err := h.fetch.Get(ctx, layout.StreamInbox, after)
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
