package storecheck

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/minio/highwayhash"
)

// The format of nats-server's block files, as far as it takes to check and to
// mend them. A record is
//
//	length   4 bytes, the top bit says that there is a header
//	sequence 8 bytes, the top bit says erased, the next that it deletes another
//	time     8 bytes
//	subject length, 2 bytes; with a header: subject, header length, header
//	         without: subject
//	message
//	checksum 8 bytes
const (
	recordHeader = 22
	checksumSize = 8
	maxRecord    = 32 << 20

	headerBit  = 1 << 31
	erasedBit  = 1 << 63
	deletesBit = 1 << 62
)

// block checks and mends one block file.
type block struct {
	hash interface {
		Write(p []byte) (int, error)
		Sum(b []byte) []byte
		Reset()
	}
}

func newBlock(stream string, index int) *block {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	h, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return nil // the key has the length that is wanted
	}
	return &block{hash: h}
}

// record is one that checks.
type record struct {
	length  int
	seq     uint64
	deletes bool // another message, and is none itself
}

// parse reads the record at the beginning of buf. It reports whether its
// checksum is right.
func (b *block) parse(buf []byte) (r record, ok bool) {
	length, seq, ok := frame(buf)
	if !ok {
		return r, false
	}
	raw := binary.LittleEndian.Uint32(buf)
	slen, data := int(binary.LittleEndian.Uint16(buf[20:])), buf[recordHeader:length]
	rest := slen
	if raw&headerBit != 0 {
		rest += 4
	}
	if rest > len(data)-checksumSize {
		return r, false
	}
	b.hash.Reset()
	_, _ = b.hash.Write(buf[4:20])
	_, _ = b.hash.Write(data[:slen])
	_, _ = b.hash.Write(data[rest : len(data)-checksumSize])
	var sum [checksumSize]byte
	if !bytes.Equal(b.hash.Sum(sum[:0]), data[len(data)-checksumSize:]) {
		return r, false
	}
	return record{length: length, seq: seq &^ (erasedBit | deletesBit), deletes: seq&deletesBit != 0}, true
}

// frame reads what stands before a record, and reports whether it can be true.
func frame(buf []byte) (length int, seq uint64, ok bool) {
	if len(buf) < recordHeader+checksumSize {
		return 0, 0, false
	}
	length = int(binary.LittleEndian.Uint32(buf) &^ headerBit)
	if length < recordHeader+checksumSize || length > maxRecord || length > len(buf) {
		return 0, 0, false
	}
	return length, binary.LittleEndian.Uint64(buf[4:]), true
}

// mark makes a record without a message: of a sequence that is erased, or that
// deletes another record, as its bits say.
func (b *block) mark(seq uint64) []byte {
	buf := make([]byte, recordHeader, recordHeader+checksumSize)
	binary.LittleEndian.PutUint32(buf, recordHeader+checksumSize)
	binary.LittleEndian.PutUint64(buf[4:], seq)
	b.hash.Reset()
	_, _ = b.hash.Write(buf[4:20])
	return b.hash.Sum(buf)
}

// checked is what came of checking a block.
type checked struct {
	mended      []byte // what should stand in the file instead; nil: nothing is wrong
	first, last uint64 // sequences of records that check; 0: none
	// lost are sequences whose records do not check and are between others, and
	// those at the end that could be read.
	lost [][2]uint64
	// named are those of lost whose subjects can still be read, and doubtful those
	// whose subjects may be what is wrong.
	named, doubtful []Message
	// cut says that the file ends in the middle of what does not check: there may
	// have been more.
	cut bool
	// torn says that nothing is wrong but the end, where no whole record can be made out.
	torn bool
	// removed are messages of this block or another that were removed.
	removed []uint64
	// whole is what was read.
	whole []byte
}

// check goes through a block. At what does not check it looks for the next
// record that does.
func (b *block) check(buf []byte) checked {
	s := scan{block: b, buf: buf, bad: -1}
	for at := 0; at < len(buf); {
		if s.bad >= 0 && !candidate(buf[at:], max(s.last, s.badSeq)) {
			at++
		} else if r, ok := b.parse(buf[at:]); ok {
			s.good(at, r)
			at += r.length
		} else {
			at += s.damaged(at)
		}
	}
	s.end()
	s.confirmNames()
	return s.checked
}

// scan is one check of a block.
type scan struct {
	checked
	block *block
	buf   []byte
	from  int // what was not copied yet begins here
	// Of what does not check: where it began, -1 outside of it, and the sequences
	// in it that could be read.
	bad              int
	badFirst, badSeq uint64
}

// good takes a record that checks, which ends what did not.
func (s *scan) good(at int, r record) {
	if s.bad >= 0 {
		if !r.deletes && r.seq > s.last+1 && s.last > 0 {
			s.lost = append(s.lost, [2]uint64{s.last + 1, r.seq - 1})
		} else if !r.deletes && s.last == 0 && r.seq > 1 { // how many were before it is not known
			s.lost = append(s.lost, [2]uint64{cmp.Or(s.badFirst, r.seq-1), r.seq - 1})
		}
		s.bad, s.from = -1, at
	}
	if r.deletes {
		s.removed = append(s.removed, r.seq)
	}
	if !r.deletes && r.seq > 0 {
		s.first = cmp.Or(s.first, r.seq)
		s.last = max(s.last, r.seq)
	}
}

// damaged takes what does not check, and returns how much of it to pass over: a
// record of which only the content is wrong still says where the next one is.
func (s *scan) damaged(at int) int {
	if s.bad < 0 {
		s.bad, s.badFirst, s.badSeq = at, 0, 0
		if s.mended == nil {
			s.mended = make([]byte, 0, len(s.buf))
		}
		s.mended = append(s.mended, s.buf[s.from:at]...)
	}
	length, seq, ok := frame(s.buf[at:])
	if !ok || seq&deletesBit != 0 || !plausible(seq, max(s.last, s.badSeq)) {
		return 1
	}
	if _, follows := s.block.parse(s.buf[at+length:]); !follows && at+length != len(s.buf) {
		return 1
	}
	s.badSeq, s.badFirst = seq, cmp.Or(s.badFirst, seq)
	m := Message{Seq: seq}
	m.Subject, m.Header = names(s.buf[at : at+length])
	s.named = append(s.named, m)
	return length
}

// end takes the end of the block.
func (s *scan) end() {
	if s.bad < 0 {
		if s.mended != nil {
			s.mended = append(s.mended, s.buf[s.from:]...)
		}
		return
	}
	s.cut, s.torn = true, s.badSeq == 0 && len(s.lost) == 0
	if s.badSeq == 0 && s.last > 0 {
		s.badSeq = s.last + 1 // a record that was cut short
	}
	if s.badSeq <= s.last {
		return
	}
	first := s.last + 1
	if s.last == 0 {
		first = s.badFirst
	}
	s.lost = append(s.lost, [2]uint64{first, s.badSeq})
	s.mended = append(s.mended, s.block.mark(s.badSeq|erasedBit)...)
	s.last = s.badSeq
}

// loseAll notes that nothing of the block could be read: the sequence that it began
// with is gone at the least, and is not given out again unless the block cannot be
// decrypted.
func (c *checked) loseAll(first uint64, b *block) {
	c.lost = [][2]uint64{{first, first}}
	if c.whole != nil {
		c.mended = append(c.mended, b.mark(first|erasedBit)...)
		c.last = first
	}
}

// names returns the subject and the header of a record whose content may be wrong.
func names(record []byte) (subject string, header []byte) {
	n, end := int(binary.LittleEndian.Uint16(record[20:])), len(record)-checksumSize
	if recordHeader+n > end {
		return "", nil
	}
	subject = string(record[recordHeader : recordHeader+n])
	if at := recordHeader + n + 4; binary.LittleEndian.Uint32(record)&headerBit != 0 && at <= end {
		if size := int64(binary.LittleEndian.Uint32(record[at-4:])); size <= int64(end-at) {
			header = bytes.Clone(record[at : at+int(size)])
		}
	}
	return subject, header
}

// confirmNames sets apart what has a subject that no record which checks has: the
// subject may be what is wrong.
func (c *checked) confirmNames() {
	if len(c.named) == 0 {
		return
	}
	seen := map[string]bool{"": false}
	for at := 0; at < len(c.mended); {
		length, _, ok := frame(c.mended[at:])
		if !ok {
			break
		}
		if name, _ := names(c.mended[at : at+length]); name != "" {
			seen[name] = true
		}
		at += length
	}
	var named []Message
	for _, m := range c.named {
		if seen[m.Subject] {
			named = append(named, m)
		} else {
			c.doubtful = append(c.doubtful, m)
		}
	}
	c.named = named
}

// nearly is how far the sequences of two records that follow each other may lie
// apart for the second to be believed without its checksum.
const nearly = 1 << 20

// candidate reports whether a record may begin here, behind what does not check.
// Without it each byte of a spoilt block could cost the checksum of all that
// follows.
func candidate(buf []byte, last uint64) bool {
	_, seq, ok := frame(buf)
	seq, marked := seq&^(erasedBit|deletesBit), seq&(erasedBit|deletesBit) != 0
	switch {
	case !ok:
		return false
	case last == 0:
		return seq < highest
	}
	return seq < last+nearly && (marked || seq > last)
}

// highest is above any sequence that a stream has in practice.
const highest = 1 << 40

func plausible(seq, last uint64) bool {
	return seq&erasedBit == 0 && seq > last && (last == 0 || seq-last < nearly)
}
