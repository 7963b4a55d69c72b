package edge

import (
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// frames are answers waiting to be written, one after another in one buffer.
type frames struct {
	data   []byte
	ends   []int
	errors []wire.Code // of the errors among them, to count when they are written
}

var framesPool = sync.Pool{New: func() any { return new(frames) }}

func (f *frames) size() int {
	if f == nil {
		return 0
	}
	return len(f.data)
}

// append adds what other holds.
func (f *frames) append(other *frames) {
	for _, end := range other.ends {
		f.ends = append(f.ends, len(f.data)+end)
	}
	f.data = append(f.data, other.data...)
	f.errors = append(f.errors, other.errors...)
}

func (f *frames) release() {
	if cap(f.data) <= keepBuffer {
		f.data, f.ends, f.errors = f.data[:0], f.ends[:0], f.errors[:0]
		framesPool.Put(f)
	}
}

// outbox has the edge's own answers to a device, guarded by conn.mu.
// conn.waitForRoom bounds it, and so do the others who add to it.
type outbox struct {
	outgoing *frames // to be written; nil when there is nothing
	held     *frames // sent after the registration's answer
	answers  uint64  // how many were made; they number the ids
	alone    bool    // the registration's answer comes in a frame of its own
	writing  bool    // the writer has taken a burst and not accounted for it yet
}

// add queues one envelope, written by write. It returns nil, and adds nothing, if
// the envelope is larger than limit.
func (o *outbox) add(write func(dst []byte) []byte, limit int, hold bool) *frames {
	queue := &o.outgoing
	if hold {
		queue = &o.held
	}
	if *queue == nil {
		*queue = framesPool.Get().(*frames)
	}
	f := *queue
	before := len(f.data)
	if f.data = write(f.data); len(f.data)-before > limit {
		f.data = f.data[:before]
		return nil
	}
	f.ends = append(f.ends, len(f.data))
	return f
}

// unhold queues the held envelopes after those in outgoing.
func (o *outbox) unhold() {
	if o.held != nil {
		o.outgoing.append(o.held)
		o.held.release()
		o.held = nil
	}
}

// takeBurst returns what to write, and whether it may be part of an array.
func (o *outbox) takeBurst() (answers *frames, array bool) {
	answers, array = o.outgoing, !o.alone
	o.outgoing, o.alone, o.writing = nil, false, true
	return answers, array
}

func (o *outbox) release() {
	for _, f := range []**frames{&o.outgoing, &o.held} {
		if *f != nil {
			(*f).release()
			*f = nil
		}
	}
}
