package inbox

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
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
	return redelivered && now-stored >= h.dedupWindow.Load()
}

// earlier says, by the sequences of messages, what is known of outcomes stored before.
type earlier map[uint64]struct {
	told bool
	err  error // it could not be found out
}

// told finds out of which messages an outcome was stored before. It reads once what
// several outcomes have in common: where a sender that asked is told. That may be very
// much, since an inbox keeps what is acknowledged. What is kept of it in memory is
// bounded by the number of outcomes.
func told(ctx context.Context, fetch *direct.Client, k *proof.Key, outcomes []outcome) earlier {
	searches := make(map[place]*search)
	for i := range outcomes {
		o := &outcomes[i]
		p, ok := o.place()
		if !ok {
			continue
		}
		s := searches[p]
		if s == nil {
			s = &search{first: o.seq, since: o.stored, told: make(map[uint64]bool)}
			searches[p] = s
		}
		s.first, s.since = min(s.first, o.seq), min(s.since, o.stored)
		s.told[o.seq] = false
	}
	found := make(earlier)
	for p, s := range searches {
		err := s.run(ctx, fetch, k, p)
		for seq, there := range s.told {
			one := found[seq]
			if one.told = there; !there {
				one.err = err
			}
			found[seq] = one
		}
	}
	return found
}

// storeOutcomes stores those outcomes of which none was stored before, and waits for the
// answers.
func storeOutcomes(ctx context.Context, publish *Publisher, outcomes []outcome, before earlier) error {
	writes := newAwaited()
	for i := range outcomes {
		o := &outcomes[i]
		b := before[o.seq]
		if b.err != nil {
			return b.err
		}
		if msg := o.message(publish.Proof); msg != nil && !b.told {
			publish.Publish(msg, writes.add())
		}
	}
	return writes.wait(ctx)
}

// place is where outcomes are stored: a lane of the inbox of the device that asked, or
// the events of the device that the messages are for.
type place struct {
	key    subjects.Key
	lane   subjects.Lane
	events bool
}

// place returns where the outcome is stored; false if nobody is told it.
func (o *outcome) place() (place, bool) {
	switch {
	case o.requester == nil:
		return place{}, false
	case o.requester.from == "":
		return place{key: o.key, events: true}, true
	}
	return place{key: subjects.Key(o.key.User() + "." + subjects.Escape(o.requester.from)), lane: o.lane}, true
}

// search looks for outcomes in one place.
type search struct {
	first uint64          // the lowest sequence of their messages
	since int64           // when the first of the messages was stored, Unix nanoseconds
	told  map[uint64]bool // by sequence: whether an outcome was found
	found int
}

// mark notes that an outcome is stored. It reports whether nothing is left to look for.
func (s *search) mark(seq uint64) (all bool) {
	if there, asked := s.told[seq]; asked && !there {
		s.told[seq] = true
		s.found++
	}
	return s.found == len(s.told)
}

func (s *search) run(ctx context.Context, fetch *direct.Client, k *proof.Key, p place) error {
	if !p.events {
		return eachStored(ctx, fetch, layout.StreamInbox, subjects.Inbox(p.key, p.lane), s.first+1, func(m *direct.Stored) bool {
			seq, ok := outcomeOf(k, m)
			return ok && s.mark(seq)
		})
	}
	for _, kind := range []wire.Status{
		wire.StatusDelivered, wire.StatusExpired, wire.StatusReplaced, wire.StatusRejected, wire.StatusUndeliverable,
	} {
		since := time.Unix(0, s.since)
		subject := subjects.Event(p.key, string(kind))
		first, _, err := fetch.Get(ctx, subjects.StreamEvent, &direct.Request{StartTime: &since, NextFor: subject, Batch: 1})
		if err == nil && len(first) > 0 {
			err = eachStored(ctx, fetch, subjects.StreamEvent, subject, first[0].Seq, func(m *direct.Stored) bool {
				seq, _, ok := ParseEventID(m.Header.Get(jetstream.MsgIDHeader))
				return ok && s.mark(seq)
			})
		}
		if err != nil || s.found == len(s.told) {
			return err
		}
	}
	return nil
}

// eachStored calls do with the messages of a subject at from or later, until it returns
// true.
func eachStored(ctx context.Context, fetch *direct.Client, stream, subject string, from uint64, do func(*direct.Stored) (enough bool)) error {
	for {
		got, left, err := fetch.Next(ctx, stream, subject, from, laneMessages, laneBytes)
		if err != nil {
			return err
		}
		for i := range got {
			if do(&got[i]) {
				return nil
			}
			from = got[i].Seq + 1
		}
		if left == 0 || len(got) == 0 {
			return nil
		}
	}
}

// outcomeOf returns the sequence of the message whose outcome s is; false if it is
// none that RCCS has stored.
func outcomeOf(k *proof.Key, s *direct.Stored) (uint64, bool) {
	seq, ok := cutSeq(s.Header.Get(subjects.HeaderID), outcomePrefix)
	if !ok || s.Header.Get(subjects.HeaderType) != wire.TypeAck {
		return 0, false
	}
	m, ok := envelope.Parse(k, envelope.Stored(*s))
	return seq, ok && m.Authentic && m.Value(subjects.HeaderFrom) == ""
}

// cutSeq returns the sequence that follows a prefix, and nothing else.
func cutSeq(text, prefix string) (uint64, bool) {
	text, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	return seq, err == nil
}

// outcomeID is the id of an outcome as the device that asked sees it.
func outcomeID(seq uint64) string { return outcomePrefix + strconv.FormatUint(seq, 10) }

const outcomePrefix = "outcome-"
