package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// Bounds of what waits to be written, past which senders block; and of what is
// put into one frame.
const (
	maxOutMessages = 1024
	maxOutBytes    = 4 << 20
	batchBytes     = 64 << 10
)

// ErrConnectionLost is how a request ends whose connection did. The other
// device may have acted on it or not.
var ErrConnectionLost = errors.New("client: the connection was lost")

// errBeingSent refuses a second message with an id that waits for its answer.
var errBeingSent = errors.New("client: a message with this id is being sent")

// outgoing is a message to send.
type outgoing struct {
	// Static.
	id    string
	frame []byte
	// done gets the answer, once; nil when none is awaited. It must return
	// soon. It may use the outbox.
	done func(reply)
	// part gets each part of a response that more follow; nil for what has no
	// parts. It is called by the reader, as done is for the last one.
	part func(payload []byte)
	// bound ends with the connection that it was written to. All else that has
	// no answer is written to the next one again.
	bound bool

	// Guarded by outbox.mu.
	order  uint64
	queued bool
	faults int // closes with 1011 in a row since it was first written
}

// reply is the answer to a message.
type reply struct {
	answer  *wire.Answer // of an ack; its payload is needed where that holds more
	payload []byte       // of an ack or a response
	err     error
	final   bool // of an err that another try would not mend, whatever its code says
}

// outbox holds what waits to be written, and what was written and waits for
// its answer. It outlives connections.
type outbox struct {
	wake func() // has the writer look; static

	mu      sync.Mutex
	queue   []*outgoing
	bytes   int // of queue
	waiting map[string]*outgoing
	order   uint64
	limit   int           // bytes of a message; 0 is unknown
	room    chan struct{} // closed when there is room again; nil when nobody waits
	closed  error         // why nothing more is taken
}

func newOutbox(wake func()) *outbox {
	return &outbox{wake: wake, waiting: make(map[string]*outgoing)}
}

// add queues a message, waiting for room.
func (b *outbox) add(ctx context.Context, o *outgoing) error {
	for {
		room, err := b.offer(o)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer queues a message, or answers with what tells of room.
func (b *outbox) offer(o *outgoing) (room chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 && b.closed == nil && (len(b.queue) >= maxOutMessages || b.bytes+len(o.frame) > maxOutBytes) {
		if b.room == nil {
			b.room = make(chan struct{})
		}
		return b.room, nil
	}
	return nil, b.pushLocked(o)
}

// push queues a message whether or not there is room: for what is bounded
// elsewhere, from where nothing may wait.
func (b *outbox) push(o *outgoing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pushLocked(o)
}

func (b *outbox) pushLocked(o *outgoing) error {
	switch {
	case b.closed != nil:
		return b.closed
	case b.limit > 0 && len(o.frame) > b.limit:
		return tooLarge(o, b.limit)
	case o.done != nil && b.waiting[o.id] != nil:
		return fmt.Errorf("%w: %s", errBeingSent, o.id)
	}
	b.order++
	o.order = b.order
	if o.done != nil {
		b.waiting[o.id] = o
	}
	b.queueLocked(o)
	b.wake()
	return nil
}

func (b *outbox) queueLocked(o *outgoing) {
	o.queued = true
	b.queue = append(b.queue, o)
	b.bytes += len(o.frame)
}

func tooLarge(o *outgoing, limit int) error {
	return wire.Errorf(wire.MessageTooLarge, "the message has %d bytes, the edge takes %d", len(o.frame), limit).For(o.id)
}

// take appends to dst a frame of as many messages as are queued and fit: one
// as it is, several as an array. Nothing is appended when none is queued.
func (b *outbox) take(dst []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return dst
	}
	most := batchBytes
	if b.limit > 0 {
		most = min(most, b.limit)
	}
	n, size := 1, len(b.queue[0].frame)+len("[]")
	for n < len(b.queue) && size+len(",")+len(b.queue[n].frame) <= most {
		size += len(",") + len(b.queue[n].frame)
		n++
	}
	for i, o := range b.queue[:n] {
		if n > 1 {
			dst = append(dst, "[,"[min(i, 1)])
		}
		dst = append(dst, o.frame...)
		o.queued = false
		b.bytes -= len(o.frame)
	}
	if n > 1 {
		dst = append(dst, ']')
	}
	b.queue = slices.Delete(b.queue, 0, n)
	b.roomLocked()
	return dst
}

func (b *outbox) roomLocked() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// answer gives a reply to whoever waits for it; false when nobody does.
func (b *outbox) answer(id string, r reply) bool {
	b.mu.Lock()
	o := b.waiting[id]
	if o != nil {
		b.removeLocked(o)
	}
	b.mu.Unlock()
	if o != nil {
		o.done(r)
	}
	return o != nil
}

// awaited is the message that waits for an answer under this id, or nil.
func (b *outbox) awaited(id string) *outgoing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting[id]
}

// removeLocked takes a message out of wherever it is.
func (b *outbox) removeLocked(o *outgoing) {
	delete(b.waiting, o.id)
	if o.queued {
		o.queued = false
		b.queue = slices.DeleteFunc(b.queue, func(other *outgoing) bool { return other == o })
		b.bytes -= len(o.frame)
		b.roomLocked()
	}
}

// forget gives up waiting for the answer to o, which is then not written, if
// it was not before. awaited is false when the answer has come already.
func (b *outbox) forget(o *outgoing) (awaited, written bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[o.id] != o {
		return false, true
	}
	written = !o.queued
	b.removeLocked(o)
	return true, written
}

// maxFaults is how many faults of the edge in a row are borne by the messages
// that were written before.
const maxFaults = 3

// blame counts a fault of the edge, or that the connection ended otherwise,
// for all that was written and has no answer: one of them may be what the edge
// cannot deal with. It fails those that were there at three faults in a row.
func (b *outbox) blame(fault bool) {
	b.mu.Lock()
	var guilty []*outgoing
	for _, o := range b.waiting {
		switch {
		case !fault:
			o.faults = 0
		case !o.queued:
			if o.faults++; o.faults >= maxFaults {
				guilty = append(guilty, o)
			}
		}
	}
	for _, o := range guilty {
		b.removeLocked(o)
	}
	b.mu.Unlock()
	for _, o := range guilty {
		told := wire.Errorf(wire.Internal, "the edge failed %d times in a row after it was sent this message", maxFaults)
		o.done(reply{err: told.For(o.id), final: true})
	}
}

// disconnected ends what lives no longer than the connection: requests that
// were written, and responses. It returns the ids of those requests.
func (b *outbox) disconnected() []string {
	b.mu.Lock()
	var ended []*outgoing
	for _, o := range b.waiting {
		if o.bound && !o.queued {
			ended = append(ended, o)
		}
	}
	for _, o := range ended {
		b.removeLocked(o)
	}
	b.queue = slices.DeleteFunc(b.queue, func(o *outgoing) bool {
		drop := o.bound && o.done == nil
		if drop {
			o.queued = false
			b.bytes -= len(o.frame)
		}
		return drop
	})
	b.roomLocked()
	b.mu.Unlock()
	ids := make([]string, len(ended))
	for i, o := range ended {
		ids[i] = o.id
		o.done(reply{err: ErrConnectionLost})
	}
	return ids
}

// reconnected queues again, in their first order, all that was written and has
// no answer. limit is the new connection's.
func (b *outbox) reconnected(limit int) {
	b.mu.Lock()
	b.limit = limit
	var large []*outgoing
	for _, o := range b.waiting {
		switch {
		case limit > 0 && len(o.frame) > limit:
			large = append(large, o)
		case !o.queued:
			b.queueLocked(o)
		}
	}
	for _, o := range large {
		b.removeLocked(o)
	}
	slices.SortFunc(b.queue, func(x, y *outgoing) int {
		if x.order < y.order {
			return -1
		}
		return 1
	})
	b.mu.Unlock()
	for _, o := range large {
		o.done(reply{err: tooLarge(o, limit)})
	}
}

// close refuses what comes and fails what waits.
func (b *outbox) close(why error) {
	b.mu.Lock()
	b.closed = why
	waiting := b.waiting
	b.waiting = nil
	b.queue, b.bytes = nil, 0
	b.roomLocked()
	b.mu.Unlock()
	for _, o := range waiting {
		o.done(reply{err: why})
	}
}
