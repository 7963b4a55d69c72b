package inbox

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// The first outcome of a message is the only one. Within the dedup window the
// store sees to that, by its Nats-Msg-Id. But a killed edge may lose an
// acknowledgement, and the message is sent and acknowledged again when the window
// has passed. Or a coordinator told at the deadline that the message has expired, and the
// device comes much later. Then the earlier outcome is looked for where it would be
// stored.

// mayBeTold reports whether an outcome may have been stored so long ago that the
// store's dedup window does not cover it. redelivered: the message may have been
// sent before.
func (h *Hub) mayBeTold(redelivered bool, stored, now int64) bool {
	return redelivered && now-stored >= h.window.Load()
}

// told reports whether an outcome of the message was stored before.
func told(ctx context.Context, fetch *direct.Client, o *outcome) (bool, error) {
	if o.requester == nil {
		return false, nil
	}
	if o.requester.from != "" {
		to := subjects.Key(o.key.User() + "." + subjects.Escape(o.requester.from))
		id := outcomeID(o.seq)
		return findStored(ctx, fetch, layout.StreamInbox, subjects.Inbox(to, o.lane), o.seq+1, func(s *direct.Stored) bool {
			return s.Header.Get(subjects.HeaderID) == id && s.Header.Get(subjects.HeaderType) == wire.TypeAck
		})
	}
	for _, kind := range []wire.Status{
		wire.StatusDelivered, wire.StatusExpired, wire.StatusReplaced, wire.StatusRejected, wire.StatusUndeliverable,
	} {
		since := time.Unix(0, o.stored)
		subject := subjects.Event(o.key, string(kind))
		first, _, err := fetch.Get(ctx, subjects.StreamEvent, &direct.Request{StartTime: &since, NextFor: subject, Batch: 1})
		if err != nil || len(first) == 0 {
			if err != nil {
				return false, err
			}
			continue
		}
		found, err := findStored(ctx, fetch, subjects.StreamEvent, subject, first[0].Seq, func(s *direct.Stored) bool {
			var e rejectedEvent
			return json.Unmarshal(s.Data, &e) == nil && e.Seq == o.seq
		})
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// findStored reports whether a subject has a message, at from or later, for which is
// returns true.
func findStored(ctx context.Context, fetch *direct.Client, stream, subject string, from uint64, is func(*direct.Stored) bool) (bool, error) {
	for {
		got, left, err := fetch.Next(ctx, stream, subject, from, laneMessages, laneBytes)
		if err != nil {
			return false, err
		}
		for i := range got {
			if is(&got[i]) {
				return true, nil
			}
			from = got[i].Seq + 1
		}
		if left == 0 || len(got) == 0 {
			return false, nil
		}
	}
}

// outcomeID is the id of an outcome as the device that asked sees it.
func outcomeID(seq uint64) string { return outcomePrefix + strconv.FormatUint(seq, 10) }

const outcomePrefix = "outcome-"
