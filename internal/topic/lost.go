package topic

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// An answer of the store passes over what is not stored any more, and over what
// the replica that answered lacks. Of what the hub has read itself the index
// knows whether there was something. Of what was stored before that, nothing
// tells of which topic a missing sequence was: then the notice says that
// something may be gone.

// missed is what an answer of the store passed over between two positions of a
// topic: messages that the leader has, and the notice of those that are gone.
// stored: pos is a message of the topic that is still stored. end: the answer
// said that nothing follows.
func (s *Subscription) missed(ctx context.Context, pos, next uint64, stored, end bool) (msgs []*Message, err error) {
	h := s.hub
	for next > pos+1 {
		g := h.gone(s.subject, pos, next, stored)
		if ask := g.sure != 0 || g.doubt || end && g.unread && h.mayLag(); !ask {
			return msgs, nil
		}
		kept, err := h.fetch.AtLeader(ctx, subjects.StreamTopic, s.subject, pos+1)
		if err != nil {
			return nil, err
		}
		if kept == nil || kept.Seq >= next {
			notice, err := h.notice(ctx, s, pos, next, g)
			if notice != nil {
				msgs = append(msgs, notice)
			}
			return msgs, err
		}
		m, ok := newMessage(reader.Entry(*kept))
		if !ok {
			return nil, fmt.Errorf("topic: message %d has the subject %q", kept.Seq, kept.Subject)
		}
		msgs = append(msgs, m)
		pos, stored = kept.Seq, true
	}
	return msgs, nil
}

// gone is what is known of a range that an answer of the store passed over.
type gone struct {
	unread  bool   // the hub has not read all of it
	sure    uint64 // the last message known to have been stored there; 0: none is
	doubt   bool   // there may have been one
	damaged bool   // the store could not read one, or may not have
}

// gone looks up what was stored of a topic between two sequences.
func (h *Hub) gone(subject string, pos, next uint64, stored bool) gone {
	h.mu.Lock()
	defer h.mu.Unlock()
	floor := h.index.floor(subject)
	g := gone{unread: pos < min(next-1, floor)}
	if pos < layout.FirstTopicSeq-1 {
		return g // all that is stored is wanted, and no more
	}
	g.sure = h.index.lastBetween(subject, pos, next)
	damaged, perhaps := h.damage.between(subject, pos, next)
	g.damaged = damaged > 0 || perhaps
	if g.unread {
		g.sure = max(g.sure, damaged)
		// The oldest is removed first: while pos is stored, nothing behind it is
		// gone that is not damaged.
		g.doubt = perhaps || !stored
	}
	return g
}

// notice is the notice that messages of a topic between pos and next are gone;
// nil if none can be.
func (h *Hub) notice(ctx context.Context, s *Subscription, pos, next uint64, g gone) (*Message, error) {
	if g.sure == 0 && !g.doubt {
		return nil, nil
	}
	state, err := h.reader.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("topic: where the stream begins: %w", err)
	}
	if g.sure == 0 && state.FirstSeq <= pos+1 && state.NumDeleted == 0 {
		return nil, nil // all that was stored behind pos still is
	}
	notice := &Message{Topic: s.topic, LostFrom: pos + 1, Seq: next - 1, Reason: reasonPurged}
	switch {
	case g.damaged:
		notice.Reason = reasonDamaged
	case state.FirstSeq > max(pos+1, g.sure):
		notice.Reason = reasonRetention
	default:
		full, err := h.full(ctx, s.subject)
		if err != nil {
			return nil, err
		}
		if full {
			notice.Reason = reasonRetention
			break
		}
		// Nobody has said why: an operator removed them with JetStream's own means, or
		// their files were damaged while the server ran.
		damaged, err := h.fetch.Unreadable(ctx, subjects.StreamTopic, s.subject, pos+1, next-1)
		if err != nil {
			return nil, fmt.Errorf("topic: why messages are gone: %w", err)
		}
		if damaged {
			notice.Reason = reasonDamaged
			h.opts.Logger.Error("the stream of topics is damaged: the server cannot read messages that it has",
				"topic", s.topic, "from", pos+1, "to", next-1)
		}
	}
	return notice, nil
}

// full reports whether a topic has as many messages as the stream keeps of one.
func (h *Hub) full(ctx context.Context, subject string) (bool, error) {
	bound := h.reader.Info().Config.MaxMsgsPerSubject
	if bound <= 0 {
		return false, nil
	}
	kept, left, err := h.read(ctx, subject, 1, 1, queueBytes)
	return int64(len(kept)+left) >= bound, err
}

// trustAfter is how long after the hub's start a replica may answer without what
// was stored before it.
const trustAfter = 15 * time.Second

// mayLag reports whether the answer of a replica is to be doubted.
func (h *Hub) mayLag() bool {
	info := h.reader.Info()
	return info != nil && info.Config.Replicas > 1 && time.Since(h.started) < trustAfter
}

// Why messages of a topic are gone, in the words of the protocol.
const (
	reasonRetention = "retention"
	reasonPurged    = "purged"
	reasonDamaged   = "damaged"
	reasonReset     = "reset"
)

// damage is what is stored under [layout.Damaged]: the messages that a server
// found unreadable before it opened the stream, and the sequences, first and
// last, of which it is not known whose they were.
type damage struct {
	Messages []struct {
		Seq     uint64 `json:"seq"`
		Subject string `json:"subject"`
	} `json:"messages"`
	Unknown [][2]uint64 `json:"unknown"`
}

// between is the last message of a topic between two sequences that is damaged; 0
// when none is known to be. perhaps: one may be.
func (d *damage) between(subject string, pos, next uint64) (last uint64, perhaps bool) {
	for _, m := range d.Messages {
		if m.Subject == subject && m.Seq > pos && m.Seq < next {
			last = max(last, m.Seq)
		}
	}
	for _, r := range d.Unknown {
		perhaps = perhaps || r[1] > pos && r[0] < next
	}
	return last, perhaps
}

// lookForDamage reads what of the stream is damaged, if something behind pos is
// missing.
func (h *Hub) lookForDamage(ctx context.Context, state jetstream.StreamState, pos uint64) error {
	if state.NumDeleted == 0 && state.FirstSeq <= pos+1 {
		return nil
	}
	found, err := h.cursors.Get(ctx, []string{layout.Damaged(subjects.StreamTopic)})
	if err != nil {
		return fmt.Errorf("topic: what is damaged: %w", err)
	}
	if found[0] == nil {
		return nil
	}
	var d damage
	if err := json.Unmarshal(found[0].Data, &d); err != nil {
		h.opts.Logger.Warn("what is damaged of the topics cannot be read", "err", err)
		return nil
	}
	h.mu.Lock()
	h.damage = d
	h.mu.Unlock()
	return nil
}
