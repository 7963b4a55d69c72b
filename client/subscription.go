package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// Bounds of the messages that wait in a subscription. Past them it takes no more, and
// reads on from the store once its queue is empty.
const (
	maxTopicMessages = 1024
	maxTopicBytes    = 4 << 20
)

// rejoinAfter is how long a subscription that was refused for the moment waits before
// it asks again.
const rejoinAfter = time.Second

// SubscribeOptions say where a subscription begins. Without them it begins now.
type SubscribeOptions struct {
	// Since begins after a seq, at a time, or with the last message. See
	// [Subscription.Last] for going on where another one ended.
	Since wire.Since
	// Epoch is what [Subscription.Epoch] returned with the seq in Since. If the topic's
	// epoch is another one by now, the subscription begins with the first message that
	// is stored, and Options.OnGap is told.
	Epoch string
}

// Subscription receives the messages of a topic, each once and in order. Lost
// connections and slow reading lose nothing that the topic still stores. What it does
// not store any more is told as a gap: see Options.OnGap.
type Subscription struct {
	// Static.
	c     *Client
	topic string
	ready chan struct{}

	mu     sync.Mutex
	since  wire.Since // of the next subscribe, while last is 0
	last   uint64     // of the last message that was queued
	epoch  string     // of since and last
	queue  []*Message
	bytes  int  // of queue
	known  bool // the edge has agreed once: new connections join by themselves
	behind bool // what comes is not taken until it has been asked for anew
	joins  int  // counts subscribes, so that a late answer is known as one
	err    error
}

// Subscribe listens to a topic until the subscription is closed. A client can have one
// subscription for each topic. Subscribe returns when the edge has agreed; ctx bounds
// only that wait.
func (c *Client) Subscribe(ctx context.Context, topic string, opts *SubscribeOptions) (*Subscription, error) {
	s := &Subscription{c: c, topic: topic, ready: make(chan struct{}, 1)}
	if opts != nil {
		s.since, s.epoch = opts.Since, opts.Epoch
	}
	if !wire.ValidTopic(topic) {
		return nil, wire.Errorf(wire.BadMessage, "%q is not a topic: want names with dots between", topic)
	}
	if !c.topics.add(s) {
		return nil, fmt.Errorf("client: topic %s has a subscription already", topic)
	}
	join := wire.Subscribe{Topic: topic, Since: s.since, Epoch: s.epoch}
	keep := func(r reply) { s.agreed(r.answer) }
	if _, err := c.controlThen(ctx, wire.TypeSubscribe, join.AppendPayload(nil), keep); err != nil {
		_ = s.Close() // the edge may have agreed all the same
		return nil, err
	}
	return s, nil
}

// Topic returns the name of the topic.
func (s *Subscription) Topic() string { return s.topic }

// Last returns the seq to go on from. A subscription with this Since, of this client or
// another, begins with the message that [Subscription.Next] would return next. Last is
// 0 until the first message of a subscription that begins at a time.
func (s *Subscription) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		return s.queue[0].Seq - 1
	}
	return max(s.last, s.since.Seq) // before the first message, where it begins
}

// Epoch returns the epoch that [Subscription.Last] counts in. It stays the same as long
// as no seq is given out twice.
func (s *Subscription) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Next waits for the next message. It needs no acknowledgement. After the end of the
// subscription Next returns the reason: [ErrClosed], the client's error, or the
// [*wire.Error] of an edge that does not let it listen any more.
func (s *Subscription) Next(ctx context.Context) (*Message, error) {
	for {
		if m, err := s.pop(); m != nil || err != nil {
			return m, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.c.done:
			if m, err := s.pop(); m != nil || err != nil {
				return m, err
			}
			return nil, s.c.Err()
		}
	}
}

// Messages is [Subscription.Next] as an iterator; the last pair has the error
// that ended it.
func (s *Subscription) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := s.Next(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() error {
	if s.fail(ErrClosed) {
		s.c.topics.remove(s)
		bye := wire.Subscribe{Topic: s.topic}
		s.c.background(wire.TypeUnsubscribe, bye.AppendPayload(nil), func(reply) {})
	}
	return nil
}

// fail ends the subscription. It reports false if the subscription had ended before.
func (s *Subscription) fail(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = err
	signal(s.ready)
	return true
}

func (s *Subscription) pop() (*Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		if s.err != nil {
			signal(s.ready) // for whoever else waits
		}
		return nil, s.err
	}
	m := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= len(m.Payload)
	if len(s.queue) > 0 {
		signal(s.ready)
	} else if s.behind {
		s.rejoinLocked()
	}
	return m, nil
}

// offer takes a message from the connection.
func (s *Subscription) offer(e *wire.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil, s.behind, e.Seq != 0 && e.Seq <= s.last:
	case len(s.queue) > 0 && (len(s.queue) >= maxTopicMessages || s.bytes+len(e.Payload) > maxTopicBytes):
		s.behind = true
	default:
		s.last = max(s.last, e.Seq)
		s.queue = append(s.queue, &Message{Envelope: *e})
		s.bytes += len(e.Payload)
		signal(s.ready)
	}
}

// agreed notes the topic's last seq at the time of the subscribe, so that a later
// subscribe begins where this one did, whenever that is.
func (s *Subscription) agreed(a *wire.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = true
	s.epoch = a.Epoch
	if a.Reset {
		s.since = wire.Since{Kind: wire.SinceSeq}
		return
	}
	switch {
	case a.Since > 0:
		s.since = wire.Since{Kind: wire.SinceSeq, Seq: a.Since}
	case s.since.Kind == wire.SinceNow:
		s.since = wire.Since{Kind: wire.SinceSeq, Seq: a.Seq}
	case s.since.Kind == wire.SinceLast:
		s.since = wire.Since{Kind: wire.SinceSeq, Seq: max(a.Seq, 1) - 1}
	}
}

// rejoinLocked subscribes again for the messages that were not taken. It leaves the
// topic first. What comes before the answer to that belongs to the old subscription and
// has a hole; what comes after it belongs to the new one.
func (s *Subscription) rejoinLocked() {
	bye := wire.Subscribe{Topic: s.topic}
	_ = s.c.pushControl(wire.TypeUnsubscribe, bye.AppendPayload(nil), func(r reply) {
		if r.err == nil || errors.As(r.err, new(*wire.Error)) {
			s.join()
		} // else the connection is lost, and the next one joins
	}) // fails only when the client has ended
}

// join subscribes on the present connection, and takes messages from then on.
func (s *Subscription) join() {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.behind = false
	s.joins++
	no := s.joins
	join := wire.Subscribe{Topic: s.topic, Since: s.since}
	if s.last > 0 {
		join.Since = wire.Since{Kind: wire.SinceSeq, Seq: s.last}
	}
	if join.Since.Kind == wire.SinceSeq && join.Since.Seq > 0 {
		join.Epoch = s.epoch
	}
	// Under the lock, so that it is not sent after the unsubscribe of a Close.
	err := s.c.pushControl(wire.TypeSubscribe, join.AppendPayload(nil), func(r reply) { s.joined(no, r) })
	s.mu.Unlock()
	if err != nil {
		s.joined(no, reply{err: err})
	}
}

// joined handles the edge's answer to a subscribe that the client itself has sent.
func (s *Subscription) joined(no int, r reply) {
	if r.err == nil {
		if r.answer.Reset { // what was known by its seq may be another message now
			s.mu.Lock()
			s.last = 0
			s.mu.Unlock()
		}
		s.agreed(r.answer)
		return
	}
	told, ok := errors.AsType[*wire.Error](r.err)
	switch {
	case !ok: // the connection is lost, and the next one joins
	case told.Code.Retry() == wire.RetryNever:
		s.c.topics.remove(s)
		s.fail(told)
	default:
		time.AfterFunc(max(rejoinAfter, told.RetryAfter), func() {
			s.mu.Lock()
			current := s.joins == no
			s.mu.Unlock()
			if current {
				s.join()
			}
		})
	}
}

// topics are the subscriptions of a client.
type topics struct {
	mu   sync.Mutex
	all  map[string]*Subscription
	used bool // what comes late is known as such
}

func (t *topics) add(s *Subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[string]*Subscription)
	}
	if t.all[s.topic] != nil {
		return false
	}
	t.all[s.topic] = s
	t.used = true
	return true
}

func (t *topics) remove(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[s.topic] == s {
		delete(t.all, s.topic)
	}
}

// offer gives a topic's message to its subscription. It reports false if the client
// never had a subscription, and the application speaks the protocol itself.
func (t *topics) offer(e *wire.Envelope) bool {
	t.mu.Lock()
	s, used := t.all[e.Topic], t.used
	t.mu.Unlock()
	if s != nil {
		s.offer(e)
	}
	return used
}

// rejoin subscribes to all topics on a new connection.
func (t *topics) rejoin() {
	t.mu.Lock()
	all := make([]*Subscription, 0, len(t.all))
	for _, s := range t.all {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		known := s.known // else its first subscribe is still under way
		s.mu.Unlock()
		if known {
			s.join()
		}
	}
}
