package topic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/damage"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/storeerr"
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
			var notice *Message
			if notice, kept, err = h.explain(ctx, s, pos, next, g); kept == nil || err != nil {
				if notice != nil {
					msgs = append(msgs, notice)
				}
				return msgs, err
			}
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

// explain returns the notice of what the leader lacks between pos and next, or the
// first message of it that another copy has.
func (h *Hub) explain(ctx context.Context, s *Subscription, pos, next uint64, g gone) (notice *Message, kept *direct.Stored, err error) {
	notice, explained, err := h.notice(ctx, s, pos, next, g)
	if notice == nil || err != nil || notice.Reason == reasonRetention {
		return notice, nil, err
	}
	if kept, err = h.elsewhere(ctx, s.subject, pos, next); kept != nil || err != nil {
		return nil, kept, err
	}
	if !explained {
		err = h.unreadable(ctx, s, notice, g.sure)
	}
	return notice, nil, err
}

// elsewhere looks in all copies of the stream for the first message of a topic
// between two sequences. The leader's may be the one that is damaged.
func (h *Hub) elsewhere(ctx context.Context, subject string, pos, next uint64) (first *direct.Stored, err error) {
	if info := h.reader.Info(); info == nil || info.Config.Replicas <= 1 {
		return nil, nil
	}
	err = reader.Copies(ctx, reader.CopiesOptions{
		Conn: h.opts.Fetch, Stream: subjects.StreamTopic, Subject: subject, After: pos, Messages: 1, Bytes: queueBytes, Logger: h.opts.Logger,
		Enough: func(got []reader.Entry, _ int) bool {
			if len(got) > 0 && got[0].Seq < next && (first == nil || got[0].Seq < first.Seq) {
				one := direct.Stored(got[0])
				first = &one
			}
			return false // another copy may have an earlier one
		},
	})
	if err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	if first != nil {
		h.opts.Logger.Warn("a message was read from another copy of the stream", "subject", subject, "seq", first.Seq)
	}
	return first, nil
}

// unreadable finds out whether the server has what is gone and cannot read it, since
// nobody has said why it is gone: an operator removed it with JetStream's own means,
// or its file was damaged while the server ran. Damage is noted for other hubs and
// operators. sure is a message of what is gone, if one is known.
func (h *Hub) unreadable(ctx context.Context, s *Subscription, notice *Message, sure uint64) error {
	found, err := h.fetch.Unreadable(ctx, subjects.StreamTopic, s.subject, notice.LostFrom, notice.Seq)
	if err != nil {
		return fmt.Errorf("topic: why messages are gone: %w", err)
	}
	if !found {
		return nil
	}
	notice.Reason = reasonDamaged
	h.opts.Logger.Error("the stream of topics is damaged: the server cannot read messages that it has",
		"topic", s.topic, "from", notice.LostFrom, "to", notice.Seq)
	return h.noteDamage(ctx, s.subject, [2]uint64{notice.LostFrom, notice.Seq}, sure)
}

// damageTries bounds how often a finding is stored again when others have stored
// theirs meanwhile.
const damageTries = 20

// noteDamage stores that messages of a topic are damaged: hubs that are started
// later have not read them.
func (h *Hub) noteDamage(ctx context.Context, subject string, within [2]uint64, seq uint64) error {
	name := layout.Damaged(subjects.StreamTopic)
	for range damageTries {
		found, err := h.cursors.Get(ctx, []string{name})
		if err != nil {
			return fmt.Errorf("topic: what is damaged: %w", err)
		}
		var stored []byte
		revision := uint64(0)
		if found[0] != nil {
			stored, revision = found[0].Data, found[0].Seq
		}
		r := damage.Parse(stored)
		r.AddRange(within)
		r.AddMessage(damage.Message{Seq: cmp.Or(seq, within[1]), Subject: subject})
		err = r.AddFinding(damage.Finding{Stream: subjects.StreamTopic, At: time.Now().UTC(), First: within[0], Unreadable: true})
		if err != nil {
			return err
		}
		body, err := r.Bytes()
		if err != nil {
			return err
		}
		_, err = h.js.Publish(ctx, name, body, jetstream.WithExpectLastSequencePerSubject(revision))
		if !storeerr.Lost(err) {
			return err
		}
	}
	return fmt.Errorf("topic: what is damaged of %s could not be stored", subject)
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
	last, perhaps := h.damaged.between(subject, pos, next)
	g.damaged = last > 0 || perhaps
	if g.unread {
		g.sure = max(g.sure, last)
		// The oldest is removed first: while pos is stored, nothing behind it is
		// gone that is not damaged.
		g.doubt = perhaps || !stored
	}
	return g
}

// notice is the notice that messages of a topic between pos and next are gone;
// nil if none can be. explained reports whether the reason is certain.
func (h *Hub) notice(ctx context.Context, s *Subscription, pos, next uint64, g gone) (m *Message, explained bool, err error) {
	if g.sure == 0 && !g.doubt {
		return nil, false, nil
	}
	state, err := h.reader.State(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("topic: where the stream begins: %w", err)
	}
	if g.sure == 0 && state.FirstSeq <= pos+1 && state.NumDeleted == 0 {
		return nil, false, nil // all that was stored behind pos still is
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
			return nil, false, err
		}
		if !full {
			return notice, false, nil
		}
		notice.Reason = reasonRetention
	}
	return notice, true, nil
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

// damaged is what is stored under [layout.Damaged]: the messages that cannot be read,
// and the sequences, first and last, of which it is not known whose they were.
type damaged struct {
	Messages []damage.Message `json:"messages"`
	Unknown  [][2]uint64      `json:"unknown"`
}

// between is the last message of a topic between two sequences that is damaged; 0
// when none is known to be. perhaps: one may be.
func (d *damaged) between(subject string, pos, next uint64) (last uint64, perhaps bool) {
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
	return h.learnDamage(ctx)
}

// learnDamage reads what of the stream is damaged. What a running server cannot read
// is not missing in the stream's state, so the hub also looks when it starts, and once
// a minute.
func (h *Hub) learnDamage(ctx context.Context) error {
	found, err := h.cursors.Get(ctx, []string{layout.Damaged(subjects.StreamTopic)})
	if err != nil {
		return fmt.Errorf("topic: what is damaged: %w", err)
	}
	if found[0] == nil {
		return nil
	}
	var d damaged
	if err := json.Unmarshal(found[0].Data, &d); err != nil {
		h.opts.Logger.Warn("what is damaged of the topics cannot be read", "err", err)
		return nil
	}
	h.mu.Lock()
	h.damaged = d
	h.mu.Unlock()
	return nil
}
