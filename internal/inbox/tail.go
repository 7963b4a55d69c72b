package inbox

import (
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/subjects"
)

// tail keeps the most recent messages of the stream in memory, linked by device.
// A device that was away for a moment is served from it, and every other joins
// the live flow from it, without a read from the store. It is guarded by Hub.mu.
type tail struct {
	ring     []tailEntry // power of two long
	first    uint64      // number of the oldest entry; entry n is ring[n&mask]
	next     uint64      // number that the next entry gets
	bytes    int
	maxBytes int
	// floor: every message stored with floor <= seq <= Hub.head is here.
	floor  uint64
	newest map[subjects.Key]uint64 // device to the number of its newest entry
}

type tailEntry struct {
	m    *envelope.Message
	gone bool   // it was purged
	prev uint64 // number+1 of the device's entry before; 0 or below first+1: none
}

func newTail(messages, bytes int) *tail {
	size := 1
	for size < messages {
		size *= 2
	}
	return &tail{ring: make([]tailEntry, size), maxBytes: bytes, newest: make(map[subjects.Key]uint64)}
}

func (t *tail) at(n uint64) *tailEntry { return &t.ring[n&uint64(len(t.ring)-1)] } //nolint:gosec // a length

func (t *tail) add(m *envelope.Message) {
	for t.next-t.first == uint64(len(t.ring)) || t.next != t.first && t.bytes+m.Cost() > t.maxBytes {
		t.evict()
	}
	e := tailEntry{m: m}
	if n, ok := t.newest[m.Key]; ok {
		e.prev = n + 1
	}
	*t.at(t.next) = e
	t.newest[m.Key] = t.next
	t.next++
	t.bytes += m.Cost()
}

func (t *tail) evict() {
	e := t.at(t.first)
	if t.newest[e.m.Key] == t.first {
		delete(t.newest, e.m.Key)
	}
	t.floor = e.m.Seq + 1
	t.bytes -= e.m.Cost()
	*e = tailEntry{}
	t.first++
}

// drop marks a device's messages up to a sequence of each lane as purged.
func (t *tail) drop(k subjects.Key, upTo [subjects.Lanes]uint64) {
	n, ok := t.newest[k]
	for ok && n >= t.first {
		e := t.at(n)
		e.gone = e.gone || e.m.Seq <= upTo[e.m.Lane]
		n, ok = e.prev-1, e.prev > 0
	}
}

// after appends to dst the device's messages of one lane with a sequence
// above pos, oldest first.
func (t *tail) after(dst []*envelope.Message, k subjects.Key, lane subjects.Lane, pos uint64) []*envelope.Message {
	from := len(dst)
	n, ok := t.newest[k]
	for ok && n >= t.first {
		e := t.at(n)
		if e.m.Seq <= pos {
			break
		}
		if e.m.Lane == lane && !e.gone {
			dst = append(dst, e.m)
		}
		n, ok = e.prev-1, e.prev > 0
	}
	for i, j := from, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}
