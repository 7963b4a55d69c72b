package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Event is a stored event of a device or a message.
type Event struct {
	Seq  uint64
	Kind string
	// Body is the JSON that services get.
	Body json.RawMessage
}

// EventGap says that events are gone that were not handed out.
type EventGap struct {
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
	Count uint64 `json:"count"` // at most so many were of interest
}

// EventOptions say which events to follow.
type EventOptions struct {
	// Filters are subjects of events; none is all.
	Filters []string
	// After is the sequence behind which to begin.
	After uint64
	// Each gets every event in order. It may take its time: what is stored
	// waits.
	Each func(Event) error
	// Gap is told in the place of events that retention took meanwhile.
	Gap func(EventGap) error
}

// LastEvent is the sequence of the last event stored.
func (t *Tenant) LastEvent(ctx context.Context) (uint64, error) {
	return t.head(ctx, subjects.StreamEvent)
}

// eventBuffer is how many events may wait to be handed out.
const eventBuffer = 256

// stallTime is how long an event waits to be handed out before it is looked
// whether retention has taken those behind it.
const stallTime = time.Second

// Events follows events until ctx ends, which is no error, or a function
// returns an error.
func (t *Tenant) Events(ctx context.Context, opts EventOptions) error {
	f := &eventFlow{t: t, opts: &opts, entries: make(chan reader.Entry, eventBuffer), quit: make(chan struct{})}
	if err := f.begin(ctx); err != nil {
		return err
	}
	r, err := reader.New(reader.Options{
		Conn: t.nc, Stream: subjects.StreamEvent, FromStart: true, After: f.last, Filter: opts.Filters, Handle: f.hand, Logger: t.log,
		Batch: eventBuffer, MaxBytes: 1 << 20,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	started := make(chan error, 1)
	go func() { started <- r.Start(ctx) }() // it returns when all that is stored was handed out
	defer func() {
		cancel()
		close(f.quit)
		if err := <-started; err != nil {
			t.log.Debug("events are not followed any more", "err", err)
		}
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer done()
		_ = r.Stop(stop)
	}()
	failed := started
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if started <- err; err != nil && ctx.Err() == nil {
				return fmt.Errorf("ops: follow events: %w", err)
			}
			failed = nil
		case e := <-f.entries:
			if err := f.each(ctx, e); err != nil {
				return err
			}
		}
	}
}

// eventFlow is one under way.
type eventFlow struct {
	t       *Tenant
	opts    *EventOptions
	entries chan reader.Entry
	quit    chan struct{}
	stalled atomic.Bool // an event has waited for a while
	last    uint64      // handed out, or gone
}

// begin finds out from where on events are stored.
func (f *eventFlow) begin(ctx context.Context) error {
	info, err := leader.InfoFrom(ctx, f.t.js, subjects.StreamEvent, f.opts.After)
	if err != nil {
		return f.t.notInstalled(subjects.StreamEvent, err)
	}
	f.last = f.opts.After
	if f.last > info.State.LastSeq { // another stream than the one that gave this sequence out
		f.last = max(info.State.FirstSeq, 1) - 1
		return f.opts.Gap(EventGap{From: 0, To: f.last})
	}
	return f.lost(info.State.FirstSeq)
}

// lost tells of what is gone below the first that is stored.
func (f *eventFlow) lost(first uint64) error {
	if first <= f.last+1 {
		return nil
	}
	gap := EventGap{From: f.last + 1, To: first - 1, Count: first - 1 - f.last}
	f.last = gap.To
	return f.opts.Gap(gap)
}

// hand waits while who follows is slow: the reader then reads no further.
func (f *eventFlow) hand(e reader.Entry) {
	select {
	case f.entries <- e:
		return
	default:
	}
	timer := time.NewTimer(stallTime)
	defer timer.Stop()
	for {
		select {
		case f.entries <- e:
			return
		case <-timer.C:
			f.stalled.Store(true)
		case <-f.quit:
			return
		}
	}
}

func (f *eventFlow) each(ctx context.Context, e reader.Entry) error {
	if e.Seq > f.last+1 && f.stalled.Swap(false) {
		info, err := f.t.info(ctx, subjects.StreamEvent)
		if err != nil {
			return err
		}
		if first := info.State.FirstSeq; first <= e.Seq {
			if err := f.lost(first); err != nil {
				return err
			}
		} else {
			f.stalled.Store(true) // those behind this one may be gone, too
		}
	}
	f.last = max(f.last, e.Seq)
	_, kind, ok := subjects.ParseEvent(e.Subject)
	if !ok || !json.Valid(e.Data) {
		return nil
	}
	return f.opts.Each(Event{Seq: e.Seq, Kind: kind, Body: e.Data})
}
