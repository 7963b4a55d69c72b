package client

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// Bounds of what waits to be written, past which Send and Post block; and of
// what is put into one frame.
const (
	maxOutMessages = 1024
	maxOutBytes    = 4 << 20
	batchBytes     = 64 << 10
)

// outgoing is a message to send.
type outgoing struct {
	id    string
	frame []byte
	reply chan reply // of one place; nil when no answer is awaited

	// Guarded by outbox.mu.
	order  uint64
	queued bool
}

// reply is the answer to a message.
type reply struct {
	accepted wire.Accepted
	err      error
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
	switch {
	case b.closed != nil:
		return nil, b.closed
	case b.limit > 0 && len(o.frame) > b.limit:
		return nil, tooLarge(o, b.limit)
	case b.waiting[o.id] != nil:
		return nil, errors.New("client: a message with id " + o.id + " is being sent")
	case len(b.queue) > 0 && (len(b.queue) >= maxOutMessages || b.bytes+len(o.frame) > maxOutBytes):
		if b.room == nil {
			b.room = make(chan struct{})
		}
		return b.room, nil
	}
	b.order++
	o.order = b.order
	if o.reply != nil {
		b.waiting[o.id] = o
	}
	b.pushLocked(o)
	b.wake()
	return nil, nil
}

func (b *outbox) pushLocked(o *outgoing) {
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
	defer b.mu.Unlock()
	o := b.waiting[id]
	if o == nil {
		return false
	}
	b.settleLocked(o, r)
	return true
}

func (b *outbox) settleLocked(o *outgoing, r reply) {
	delete(b.waiting, o.id)
	b.dropLocked(o)
	o.reply <- r // it has one place and gets one reply
}

// dropLocked takes a message out of the queue, if it is still there.
func (b *outbox) dropLocked(o *outgoing) {
	if o.queued {
		o.queued = false
		b.queue = slices.DeleteFunc(b.queue, func(other *outgoing) bool { return other == o })
		b.bytes -= len(o.frame)
		b.roomLocked()
	}
}

// forget gives up waiting for the answer to o.
func (b *outbox) forget(o *outgoing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[o.id] == o {
		delete(b.waiting, o.id)
		b.dropLocked(o)
	}
}

// reconnected queues again, in their first order, all that was written and has
// no answer. limit is the new connection's.
func (b *outbox) reconnected(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
	for _, o := range b.waiting {
		switch {
		case limit > 0 && len(o.frame) > limit:
			b.settleLocked(o, reply{err: tooLarge(o, limit)})
		case !o.queued:
			b.pushLocked(o)
		}
	}
	slices.SortFunc(b.queue, func(x, y *outgoing) int {
		if x.order < y.order {
			return -1
		}
		return 1
	})
}

// close refuses what comes and fails what waits.
func (b *outbox) close(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = why
	for _, o := range b.waiting {
		b.settleLocked(o, reply{err: why})
	}
	b.queue, b.bytes = nil, 0
	b.roomLocked()
}
