package topic

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// ahead is more than the clocks of two machines differ. What lies so far ahead
// is not asked for: the server counts nanoseconds, and takes a time after 2262
// for one in the past.
const ahead = time.Hour

// Since says where a subscription begins. The zero value is now.
type Since struct {
	// After a sequence, when FromSeq is set.
	FromSeq bool
	Seq     uint64
	// Epoch is that of Seq; "" where the subscriber does not know it.
	Epoch string
	// At or after a time, unless it is zero. One in the future is now.
	Time time.Time
	// Last begins with the last message stored.
	Last bool
}

// Bounds of a subscription's queue.
const (
	queueMessages = 256
	queueBytes    = 1 << 20
	// keepQueue is how long an empty queue may be and still be kept, so that
	// a subscriber who keeps up costs no allocations.
	keepQueue = 16
)

// fillRetry is how long a subscription waits after a failed read of the store.
const fillRetry = 200 * time.Millisecond

// Subscription is a position in a topic.
type Subscription struct {
	hub     *Hub
	by      string
	topic   string
	subject string
	ready   func(*Subscription)

	mu         sync.Mutex
	owner      string // see SetOwner
	queue      []*Message
	first      int // the next of queue
	bytes      int
	readPos    uint64 // all up to it was queued, or is not wanted
	catchingUp bool   // the store may have messages above readPos that are not queued
	filling    bool
	closed     bool
}

// Followers is how many subscriptions a topic has at this hub.
func (h *Hub) Followers(name string) int {
	subject, err := subjects.Topic(name)
	if err != nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs[subject])
}

// Owners are those who own the subscriptions of a topic at this hub, in order
// and each once.
func (h *Hub) Owners(name string) []string {
	subject, err := subjects.Topic(name)
	if err != nil {
		return nil
	}
	h.mu.Lock()
	subs := slices.Clone(h.subs[subject])
	h.mu.Unlock()
	owners := make([]string, 0, len(subs))
	for _, s := range subs {
		s.mu.Lock()
		if s.owner != "" {
			owners = append(owners, s.owner)
		}
		s.mu.Unlock()
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// SetOwner says whose subscription it is, for [Hub.Owners].
func (s *Subscription) SetOwner(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = name
}

// Beginning is where a subscription begins.
type Beginning struct {
	Last  uint64 // of the topic's last stored message; 0 when there is none
	Epoch string // see [Hub.Epoch]
	// Since is the sequence that the subscription begins after, where nothing of
	// the topic is stored and none was named; else 0. Who goes on from there is
	// told of what came and went meanwhile.
	Since uint64
	// Reset: the sequence to begin after was not one of this stream, so that
	// the subscription begins with a notice and the first message stored.
	Reset bool
}

// Subscribe begins to follow a topic. by is whose subscription it is: those of
// one take turns with those of others in reading the store. ready is told, from
// another goroutine, that Next has something again after it had nothing more.
func (h *Hub) Subscribe(ctx context.Context, by, topic string, since Since, ready func(*Subscription)) (s *Subscription, at Beginning, err error) {
	subject, err := subjects.Topic(topic)
	if err != nil {
		return nil, at, err
	}
	// From here on nothing is missed: what comes while it is catching up is found
	// when it joins.
	s = &Subscription{hub: h, by: by, topic: topic, subject: subject, ready: ready, catchingUp: true, filling: true, readPos: math.MaxUint64}
	head, err := h.follow(s)
	if err != nil {
		return nil, at, err
	}
	following := s // a return sets s
	defer func() {
		if err != nil {
			following.Close()
		}
	}()
	found, err := h.last.Get(ctx, []string{subject})
	if err != nil {
		return nil, at, fmt.Errorf("topic: subscribe: %w", err)
	}
	if found[0] != nil {
		at.Last = found[0].Seq
	}
	end, err := h.resets(ctx, since)
	if err != nil {
		return nil, at, err
	}
	at.Reset, at.Epoch = end > 0, h.Epoch()
	var pos uint64
	if at.Reset {
		pos, err = s.reset(ctx, end)
	} else {
		pos, err = h.begin(ctx, subject, since, head, at.Last)
	}
	if err != nil {
		return nil, at, err
	}
	if at.Last == 0 && !since.FromSeq {
		at.Since = pos
	}
	s.mu.Lock()
	s.readPos = pos
	s.mu.Unlock()
	if err := s.fill(ctx); err != nil {
		return nil, at, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = false
	if s.queued() > 0 {
		s.ready(s)
	}
	s.refillLocked() // the hub may have asked for it meanwhile
	return s, at, nil
}

// follow adds a subscription to those that the hub hands messages to. head is the
// sequence up to which it has handed out everything before.
func (h *Hub) follow(s *Subscription) (head uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return 0, ErrStopped
	}
	h.subs[s.subject] = append(h.subs[s.subject], s)
	return h.head, nil
}

// resets is the stream's last sequence if one to begin after is not of the stream
// as it is, but of another epoch, or above all that were given out; else 0.
func (h *Hub) resets(ctx context.Context, since Since) (end uint64, err error) {
	if !since.FromSeq || since.Seq == 0 {
		return 0, nil
	}
	state, err := h.reader.State(ctx)
	if err != nil {
		return 0, fmt.Errorf("topic: subscribe: %w", err)
	}
	foreign := since.Epoch != "" && since.Epoch != h.Epoch()
	if !foreign && since.Seq > state.LastSeq {
		if state, err = h.reader.StateFrom(ctx, since.Seq); err != nil {
			return 0, fmt.Errorf("topic: subscribe: %w", err)
		}
	}
	if foreign || since.Seq > state.LastSeq {
		return max(state.LastSeq, layout.FirstTopicSeq-1), nil
	}
	return 0, h.lookForDamage(ctx, state, since.Seq)
}

// reset queues the notice that the subscription begins anew, and returns the
// position before the first message stored, or else end, the stream's last
// sequence.
func (s *Subscription) reset(ctx context.Context, end uint64) (pos uint64, err error) {
	first, err := s.hub.fetch.AtLeader(ctx, subjects.StreamTopic, s.subject, 1)
	if err != nil {
		return 0, err
	}
	notice := &Message{Topic: s.topic, Reset: true, Reason: reasonReset}
	if first != nil {
		notice.Seq, end = first.Seq-1, first.Seq-1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, notice)
	s.bytes += messageOverhead
	return end, nil
}

// begin is the position before the first message that is wanted.
func (h *Hub) begin(ctx context.Context, subject string, since Since, head, last uint64) (uint64, error) {
	switch {
	case since.FromSeq:
		return since.Seq, nil
	case since.Last && last > 0:
		return last - 1, nil
	case !since.Time.IsZero() && since.Time.Before(time.Now().Add(ahead)):
		got, _, err := h.fetch.Get(ctx, subjects.StreamTopic, &direct.Request{StartTime: &since.Time, NextFor: subject, Batch: 1})
		if err != nil {
			return 0, fmt.Errorf("topic: subscribe: %w", err)
		}
		if len(got) > 0 {
			return got[0].Seq - 1, nil
		}
		if h.reader.Info().Config.Replicas > 1 { // a copy that lags may have answered
			first, err := h.fetch.AtLeaderSince(ctx, subjects.StreamTopic, subject, since.Time)
			if err != nil {
				return 0, fmt.Errorf("topic: subscribe: %w", err)
			}
			if first != nil {
				return first.Seq - 1, nil
			}
		}
	}
	return max(head, last), nil
}

// Topic is the topic's name.
func (s *Subscription) Topic() string { return s.topic }

// Close ends the subscription. It is idempotent.
func (s *Subscription) Close() {
	s.hub.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.queue, s.first, s.bytes = nil, 0, 0
}

func (s *Subscription) queued() int { return len(s.queue) - s.first }

func (s *Subscription) room() bool {
	n := s.queued()
	return n == 0 || n < queueMessages && s.bytes < queueBytes
}

func (s *Subscription) push(m *Message) {
	s.readPos = m.Seq
	if s.first > len(s.queue)/2 && len(s.queue) == cap(s.queue) {
		n := copy(s.queue, s.queue[s.first:])
		clear(s.queue[n:])
		s.queue, s.first = s.queue[:n], 0
	}
	s.queue = append(s.queue, m)
	s.bytes += m.cost()
}

// deliver is called by the hub, with Hub.mu held, for each message of the
// topic.
func (s *Subscription) deliver(m *Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.catchingUp || m.Seq <= s.readPos {
		return
	}
	if !s.room() {
		s.catchingUp = true
		return
	}
	s.push(m)
	if s.queued() == 1 {
		s.ready(s)
	}
}

// lookBack has the subscription read the store again from what it had last. It is
// called by the hub, with Hub.mu held.
func (s *Subscription) lookBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.readPos == math.MaxUint64 { // it has yet to begin
		return
	}
	s.catchingUp = true
	s.refillLocked()
}

// Next appends to dst what is to be sent next, in order, up to limit messages
// and about maxBytes. more says that there is more already.
func (s *Subscription) Next(dst []*Message, limit, maxBytes int) (msgs []*Message, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 0; s.queued() > 0 && n < limit && maxBytes > 0; n++ {
		m := s.queue[s.first]
		s.queue[s.first] = nil
		s.first++
		s.bytes -= m.cost()
		maxBytes -= m.cost()
		dst = append(dst, m)
	}
	if s.queued() == 0 {
		s.queue, s.first = s.queue[:0], 0
		if cap(s.queue) > keepQueue {
			s.queue = nil
		}
	}
	s.refillLocked()
	return dst, s.queued() > 0
}
