package topic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// A stream can lose its end, as after a loss of power. Its sequences are then
// given out again, and a subscriber that goes on from one of them would miss
// what is stored under it now. So a hub stores how far it has read, and one that
// finds the stream shorter than that renews its epoch.

// markEvery is how often a hub stores how far it has read, at most.
const markEvery = time.Second

// learnEvery is how often a hub asks what others have found damaged.
const learnEvery = time.Minute

// mark is what is stored under [layout.TopicMark].
type mark struct {
	Head uint64 `json:"head"`
}

// checkEnd renews the epoch of a stream that has lost its end, learns what of it is
// damaged, and examines what was stored while no hub ran.
func (h *Hub) checkEnd(ctx context.Context) error {
	stream, err := h.js.Stream(ctx, layout.StreamCursor)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // nobody has stored a mark
	}
	if err != nil {
		return fmt.Errorf("topic: look up stream %s: %w", layout.StreamCursor, err)
	}
	if err := h.learnDamage(ctx); err != nil {
		return err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, layout.TopicMark)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("topic: read how far the stream was read: %w", err)
	}
	var m mark
	if err := json.Unmarshal(msg.Data, &m); err != nil {
		return fmt.Errorf("topic: stored mark: %w", err)
	}
	last := h.reader.Last()
	if m.Head > last {
		state, err := h.reader.StateFrom(ctx, m.Head)
		if err != nil {
			return fmt.Errorf("topic: where the stream ends: %w", err)
		}
		last = max(last, state.LastSeq)
	}
	if m.Head <= last {
		h.marked = m.Head
		return h.examineMissed(ctx, m.Head, last)
	}
	h.opts.Logger.Error("the stream of topics has lost its end: subscribers begin anew", "was", m.Head, "is", last)
	if err := epoch.Renew(ctx, h.js, subjects.StreamTopic); err != nil {
		return err
	}
	if _, err := h.reader.State(ctx); err != nil { // which has the new epoch
		return err
	}
	return h.storeMark(ctx, last)
}

// runMarks stores how far the hub has read, and learns what others have found
// damaged, until the hub stops.
func (h *Hub) runMarks() {
	tick, learn := time.NewTicker(markEvery), time.NewTicker(learnEvery)
	defer tick.Stop()
	defer learn.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-learn.C:
			if err := h.learnDamage(h.ctx); err != nil && h.ctx.Err() == nil {
				h.opts.Logger.Warn("what is damaged of the topics is not known, asking again", "err", err)
			}
			continue
		case <-tick.C:
		}
		h.mu.Lock()
		head := h.head
		h.mu.Unlock()
		if head <= h.marked {
			continue
		}
		ctx, cancel := context.WithTimeout(h.ctx, markTimeout)
		if err := h.storeMark(ctx, head); err != nil && h.ctx.Err() == nil {
			h.opts.Logger.Warn("not stored how far topics were read, trying again", "err", err)
		}
		cancel()
	}
}

// markTimeout bounds the storing of one mark.
const markTimeout = 5 * time.Second

func (h *Hub) storeMark(ctx context.Context, head uint64) error {
	body, err := json.Marshal(&mark{head})
	if err != nil {
		return err
	}
	if _, err := h.js.Publish(ctx, layout.TopicMark, body); err != nil {
		return fmt.Errorf("topic: store how far the stream was read: %w", err)
	}
	h.marked = head
	return nil
}
