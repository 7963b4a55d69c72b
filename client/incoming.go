package client

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rccs-io/rccs/wire"
)

// incoming holds the messages that came and were not received yet, and knows
// which are new. It outlives connections.
type incoming struct {
	// Static after construction.
	explicit bool         // messages are acknowledged
	wake     func()       // has the writer look for acknowledgements
	dropped  func(uint64) // hears how many ephemeral messages were dropped so far
	ready    chan struct{}
	room     chan struct{}

	mu      sync.Mutex
	queue   []*Message
	pending map[uint64]*Message // queued or being handled, by seq
	ids     map[sender]uint64   // the seqs of pending, by sender and id
	seen    seen
	acks    []uint64
	rejects []wire.Reject
	epoch   int // counts changes of the edge's epoch
	drops   uint64
	// An acknowledgement waits for others while there are messages to handle.
	clock *time.Timer // wakes the writer when one has waited long enough
	armed bool        // clock runs
}

// Bounds of how long an acknowledgement waits for others to go with.
const (
	ackDelay = time.Millisecond
	ackBatch = 128
)

// maxQueue is how many messages wait for Receive beside the window. Ephemeral
// ones past it are dropped, durable ones are not read from the socket. With
// explicit acknowledgements the window keeps durable ones below it.
const maxQueue = 1024

func newIncoming(explicit bool, window int, wake func(), dropped func(uint64)) *incoming {
	return &incoming{
		explicit: explicit, wake: wake, dropped: dropped,
		pending: make(map[uint64]*Message), ids: make(map[sender]uint64), seen: newSeen(max(remembered, 2*window)),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// deliver takes a message from the connection. It blocks only for a durable
// message that the edge counts as delivered, when nobody receives.
func (in *incoming) deliver(ctx context.Context, e *wire.Envelope) {
	m := in.message(e)
	for !in.offer(m) {
		select {
		case <-in.room:
		case <-ctx.Done():
			return
		}
	}
}

// message makes a message that came on this connection.
func (in *incoming) message(e *wire.Envelope) *Message {
	in.mu.Lock()
	defer in.mu.Unlock()
	return &Message{Envelope: *e, in: in, epoch: in.epoch}
}

// offer is false when the message must wait for room.
func (in *incoming) offer(m *Message) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	full := len(in.queue) >= maxQueue
	switch {
	case !m.durable() && full:
		in.drops++
		in.dropped(in.drops)
	case !in.explicit && full:
		return false
	case !m.durable() || !in.explicit || in.isNewLocked(m):
		in.pushLocked(m)
	}
	return true
}

// isNewLocked reports whether a durable message must be handed on, and answers
// one that must not.
func (in *incoming) isNewLocked(m *Message) bool {
	if known := in.pending[m.Seq]; known != nil {
		in.againLocked(known)
		return false // it is acknowledged when it has been handled
	}
	_, twin := in.ids[senderOf(&m.Envelope)]
	if in.seen.has(&m.Envelope) || twin && m.ID != "" && !m.Replay {
		// Of a twin that is being handled, the first copy stays in the inbox
		// until it has been: this one is not needed.
		in.acks = append(in.acks, m.Seq)
		in.wake()
		return false
	}
	in.pending[m.Seq] = m
	in.ids[senderOf(&m.Envelope)] = m.Seq
	return true
}

func (in *incoming) pushLocked(m *Message) {
	in.queue = append(in.queue, m)
	signal(in.ready)
}

// pop is the next message, nil when there is none.
func (in *incoming) pop() *Message {
	in.mu.Lock()
	defer in.mu.Unlock()
	m := in.nextLocked()
	for m != nil && in.handledLocked(m) {
		in.unpendLocked(m)
		in.acks = append(in.acks, m.Seq)
		in.wake()
		m = in.nextLocked()
	}
	return m
}

// handledLocked reports whether a message was handled between its coming and
// its turn: under the seq that it had in an earlier epoch.
func (in *incoming) handledLocked(m *Message) bool {
	return in.epoch > 0 && in.explicit && m.durable() && in.seen.has(&m.Envelope)
}

func (in *incoming) nextLocked() *Message {
	if len(in.queue) == 0 {
		return nil
	}
	m := in.queue[0]
	in.queue[0] = nil
	in.queue = in.queue[1:]
	if len(in.queue) > 0 {
		signal(in.ready) // for another receiver
	}
	signal(in.room)
	return m
}

// knows reports whether the message with this seq was handled.
func (in *incoming) knows(seq uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.seen.hasSeq(seq)
}

// ack acknowledges a message that was handled.
func (in *incoming) ack(m *Message) {
	if !m.durable() || !in.explicit {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.finishLocked(m) {
		return
	}
	in.acks = append(in.acks, m.Seq)
	switch {
	case len(in.queue) == 0 || len(in.acks) >= ackBatch:
		in.wake()
	case in.clock == nil:
		in.armed, in.clock = true, time.AfterFunc(ackDelay, in.wake)
	case !in.armed:
		in.armed = true
		in.clock.Reset(ackDelay)
	}
}

// finishLocked remembers a message as handled. It is false when the message is
// of an earlier epoch: its seq means another message now, and it may come again
// under another one, when it is known by its id.
func (in *incoming) finishLocked(m *Message) bool {
	if m.epoch != in.epoch {
		e := m.Envelope
		e.Seq = 0
		in.seen.add(&e)
		return false
	}
	in.unpendLocked(m)
	in.seen.add(&m.Envelope)
	return true
}

// reject refuses a message.
func (in *incoming) reject(m *Message, reason string) {
	if !m.durable() || !in.explicit {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.finishLocked(m) {
		in.rejectLocked(m.Seq, reason)
	}
}

// refuse refuses what could not even become a message.
func (in *incoming) refuse(seq uint64, reason string) {
	if !in.explicit {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rejectLocked(seq, reason)
}

func (in *incoming) rejectLocked(seq uint64, reason string) {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	for len(reason) > wire.MaxReason {
		_, last := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-last]
	}
	in.rejects = append(in.rejects, wire.Reject{Seq: seq, Reason: reason})
	in.wake()
}

// retry hands a message on again after a while, or at once with the next
// connection.
func (in *incoming) retry(m *Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.pending[m.Seq] != m {
		return // not durable, acknowledged after all, or of an earlier epoch
	}
	m.Redelivered = true
	m.delayed = true
	wait := min(firstRetry<<min(m.tries, 16), maxRetry)
	m.tries++
	time.AfterFunc(wait, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.againLocked(m)
	})
}

// Bounds of the wait before a message that was not handled is handed on again.
const (
	firstRetry = time.Second
	maxRetry   = time.Minute
)

func (in *incoming) againLocked(m *Message) {
	if m.delayed && in.pending[m.Seq] == m {
		m.delayed = false
		in.pushLocked(m)
	}
}

func (in *incoming) unpendLocked(m *Message) {
	delete(in.pending, m.Seq)
	if in.ids[senderOf(&m.Envelope)] == m.Seq {
		delete(in.ids, senderOf(&m.Envelope))
	}
}

// takeAcks moves what is to be acknowledged to dst.
func (in *incoming) takeAcks(dst []uint64) []uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.acks) == 0 {
		return dst
	}
	if in.armed {
		in.armed = false
		in.clock.Stop()
	}
	dst = append(dst, in.acks...)
	in.acks = in.acks[:0]
	return dst
}

// takeRejects returns what is to be refused.
func (in *incoming) takeRejects() []wire.Reject {
	in.mu.Lock()
	defer in.mu.Unlock()
	taken := in.rejects
	in.rejects = nil
	return taken
}

// reconnected forgets acknowledgements that were not sent: the edge sends
// those messages again, and is told then. With another epoch than before,
// sequences may mean other messages: all that was remembered by them is
// forgotten. What is being handled is known by its id if it comes again.
func (in *incoming) reconnected(sameEpoch bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.acks, in.rejects = in.acks[:0], nil
	if sameEpoch {
		return
	}
	in.epoch++
	in.seen.forgetSeqs()
	clear(in.pending)
	clear(in.ids)
	if !in.explicit {
		return // what is queued counts as delivered: it does not come again
	}
	in.queue = slices.DeleteFunc(in.queue, func(m *Message) bool { return m.durable() }) // they come again
}

// signal fills a channel of one place, so that whoever waits looks again.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
