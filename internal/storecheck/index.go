package storecheck

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server/avl"
)

// storeIndex is what nats-server noted of a stream, when it closed it or up to
// two minutes before it was killed.
type storeIndex struct {
	first  uint64 // the first sequence
	blocks []indexed
	end    int             // the number of the last block
	sum    []byte          // the checksum with which that ended
	gone   func() []uint64 // what was removed, as the blocks say; nil: it is not asked for
}

type indexed struct {
	number      int
	bytes       uint64 // of messages
	first, last uint64
	messages    uint64
	deleted     *avl.SequenceSet // nil: none
}

// compare adds to what came of checking a block what the index knows to be gone
// from its end. The sequences are not given out again.
// current says that the index was written last.
func (x *storeIndex) compare(number int, size int64, c *checked, b *block, current bool) {
	if x == nil {
		return
	}
	if current && number == x.end && c.mended == nil && x.sum != nil && !bytes.HasSuffix(c.whole, x.sum) {
		c.mended, c.cut = c.whole, true
	}
	for _, known := range x.blocks {
		if known.number == number && len(c.lost) > 0 && known.first < c.lost[0][0] && c.lost[0][1] < c.first {
			c.lost[0][0] = known.first
		}
		// A file that was cut is smaller than what was in it.
		if known.number != number || known.last <= c.last || c.mended == nil && uint64(size) >= known.bytes { //nolint:gosec // a size
			continue
		}
		if c.mended == nil && x.accounted(known, max(c.last+1, known.first)) {
			continue
		}
		if c.mended == nil {
			c.mended = c.whole
		}
		c.lost = append(c.lost, [2]uint64{max(c.last+1, known.first), known.last})
		c.mended = append(c.mended, b.mark(known.last|erasedBit)...)
		c.last, c.cut = known.last, true
	}
}

// removed reports whether a message is known to have been removed.
func (x *storeIndex) removed(seq uint64) bool {
	if x == nil {
		return false
	}
	for _, known := range x.blocks {
		if seq >= known.first && seq <= known.last {
			return known.deleted != nil && known.deleted.Exists(seq)
		}
	}
	return seq < x.first
}

// mostDeletions bounds what is repeated of deletions.
const mostDeletions = 1 << 20

// deletions repeats which messages were deleted: the records that said so may be
// among what is damaged.
func (x *storeIndex) deletions(b *block) (records []byte) {
	if x == nil {
		return nil
	}
	for _, known := range x.blocks {
		if known.deleted == nil || known.deleted.Size() > mostDeletions {
			continue
		}
		known.deleted.Range(func(seq uint64) bool {
			records = append(records, b.mark(seq|deletesBit)...)
			return true
		})
	}
	return records
}

// readIndex reads it; nil when there is none that can be read, which only means
// that less can be told.
func readIndex(msgs, account, stream string, keys []string) *storeIndex {
	buf, err := os.ReadFile(filepath.Join(msgs, "index.db"))
	if err != nil || len(buf) < 32 {
		return nil
	}
	buf = buf[:len(buf)-checksumSize]
	if sealedKey, err := os.ReadFile(filepath.Join(filepath.Dir(msgs), "meta.key")); err == nil {
		if buf = openIndex(buf, sealedKey, account, stream, keys); buf == nil {
			return nil
		}
	}
	if len(buf) < 2 || buf[0] != 11 || buf[1] < 1 || buf[1] > 4 {
		return nil
	}
	r := &indexReader{buf: buf[2:], version: buf[1]}
	x := r.read()
	if r.bad {
		return nil
	}
	return x
}

type indexReader struct {
	buf     []byte
	version byte
	bad     bool
}

func (r *indexReader) skip(n uint64) {
	if n > uint64(len(r.buf)) {
		r.bad, n = true, 0
	}
	r.buf = r.buf[n:]
}

func (r *indexReader) uint() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *indexReader) int() {
	if _, n := binary.Varint(r.buf); n > 0 {
		r.buf = r.buf[n:]
	} else {
		r.bad = true
	}
}

func (r *indexReader) read() *storeIndex {
	x := &storeIndex{}
	r.uint() // messages
	r.uint() // bytes
	x.first = r.uint()
	r.int()  // its time
	r.uint() // last sequence
	r.int()  // its time
	for n := r.uint(); n > 0 && !r.bad; n-- {
		length := r.uint()
		if length == 0 {
			continue
		}
		r.skip(length) // the subject
		total := r.uint()
		r.uint() // its first block
		if total > 1 || r.version >= 4 {
			r.uint() // its last
		}
	}
	for n := r.uint(); n > 0 && !r.bad; n-- {
		x.blocks = append(x.blocks, r.block())
	}
	x.end = int(r.uint()) //nolint:gosec // the number of a file
	if len(r.buf) >= checksumSize {
		x.sum = r.buf[:checksumSize]
	}
	return x
}

func (r *indexReader) block() indexed {
	b := indexed{number: int(r.uint()), bytes: r.uint(), first: r.uint()} //nolint:gosec // the number of a file
	r.int()
	b.last = r.uint()
	r.int()
	deleted := r.uint()
	if r.version >= 2 {
		r.uint() // lives of messages
	}
	if r.version >= 3 {
		r.uint() // schedules
	}
	if deleted > 0 && !r.bad {
		set, n, err := avl.Decode(r.buf)
		if err != nil {
			r.bad = true
			return b
		}
		b.deleted = set
		r.skip(uint64(n)) //nolint:gosec // not negative
	}
	if kept := b.last - b.first + 1; kept > deleted {
		b.messages = kept - deleted
	}
	return b
}
