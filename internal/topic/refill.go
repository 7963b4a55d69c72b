package topic

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// refillLocked has the store read, once at a time, when it may have what the
// queue lacks.
func (s *Subscription) refillLocked() {
	if !s.catchingUp || s.filling || s.closed || s.queued() > queueMessages/2 {
		return
	}
	s.filling = s.hub.fills.RunInTurn(s.by, s.refill)
}

// refill reads the store until the subscription is live or its queue full.
func (s *Subscription) refill() { s.filled(s.fill(s.hub.ctx)) }

// filled ends a refill.
func (s *Subscription) filled(err error) {
	h := s.hub
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = false
	if s.closed {
		return
	}
	if s.queued() > 0 {
		s.ready(s)
	}
	if err == nil {
		// The owner may have emptied the queue since it was found full, and
		// then nobody else would begin to read again.
		s.refillLocked()
		return
	}
	if h.ctx.Err() == nil {
		h.opts.Logger.Warn("topic catch-up failed, retrying", "err", err)
		time.AfterFunc(fillRetry, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refillLocked()
		})
	}
}

// span is what a subscription lacks: from behind pos up to floor.
type span struct {
	pos, floor uint64
}

// fill queues what the subscription lacks until it is live, or its queue full.
func (s *Subscription) fill(ctx context.Context) error {
	for {
		lacks, more := s.join()
		if !more {
			return nil
		}
		msgs, left, err := s.read(ctx, lacks)
		if err != nil {
			return err
		}
		s.mu.Lock()
		for _, m := range msgs {
			if !s.room() {
				left = 1
				break
			}
			s.push(m)
		}
		if left == 0 && s.readPos < lacks.floor-1 {
			// Nothing between here and the tail; of what is newer the tail
			// knows.
			s.readPos = lacks.floor - 1
		}
		s.mu.Unlock()
	}
}

// read is the next of what is lacking, with notices where something is gone. What
// the tail has is left to it.
func (s *Subscription) read(ctx context.Context, lacks span) (msgs []*Message, left int, err error) {
	h, pos, stored := s.hub, lacks.pos, false
	from := pos + 1
	if h.gone(s.subject, pos, lacks.floor, false).unread {
		from = pos // whether that is stored still says what is not
	}
	got, left, err := h.read(ctx, s.subject, from, queueMessages, queueBytes)
	if err == nil && len(got) > 0 && got[0].Seq == pos {
		if got, stored = got[1:], true; len(got) == 0 && left > 0 {
			got, left, err = h.read(ctx, s.subject, pos+1, queueMessages, queueBytes)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if i := slices.IndexFunc(got, func(m *Message) bool { return m.Seq >= lacks.floor }); i >= 0 {
		got, left = got[:i], 0
	}
	for _, m := range got {
		missed, err := s.missed(ctx, pos, m.Seq, stored, false)
		if err != nil {
			return nil, 0, err
		}
		msgs = append(append(msgs, missed...), m)
		pos, stored = m.Seq, true
	}
	if left == 0 {
		missed, err := s.missed(ctx, pos, lacks.floor, stored, true)
		return append(msgs, missed...), 0, err
	}
	return msgs, left, nil
}

// join queues what the tail has. more is false when the subscription is live
// now, or full, or closed; else the store must be read.
func (s *Subscription) join() (lacks span, more bool) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.catchingUp || !s.room() {
		return span{}, false
	}
	if s.readPos+1 < h.floor {
		return span{s.readPos, h.floor}, true
	}
	i, _ := slices.BinarySearchFunc(h.tail, s.readPos+1, func(m *Message, seq uint64) int { return cmp.Compare(m.Seq, seq) })
	for _, m := range h.tail[i:] {
		if m.Subject != s.subject {
			continue
		}
		if !s.room() {
			return span{}, false
		}
		s.push(m)
	}
	s.catchingUp = false
	return span{}, false
}
