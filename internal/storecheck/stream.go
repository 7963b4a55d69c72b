package storecheck

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// streamCheck is the check of one stream, block by block.
type streamCheck struct {
	*inspection
	d       Damage
	index   *storeIndex // as it was read; nil: there is none that can be
	trusted *storeIndex // the same, as far as the blocks may be held against it

	changes bool // something is to be mended
	mended  []func() error
	removed []uint64 // what was deleted, as the blocks say
	before  uint64   // the last sequence of the blocks before, as far as they were read
	cutAt   uint64   // the last sequence of the block before, if its end is gone; else 0
}

// stream checks one stream.
func (i *inspection) stream(msgs string) error {
	stream := filepath.Dir(msgs)
	s := &streamCheck{inspection: i, d: Damage{
		Account: filepath.Base(filepath.Dir(filepath.Dir(stream))), Stream: filepath.Base(stream),
		Server: i.Server, At: time.Now().UTC(),
	}}
	if strings.HasPrefix(s.d.Stream, ".") {
		return nil // about to be removed
	}
	numbers, err := listBlocks(msgs)
	if err != nil {
		return err
	}
	s.index = readIndex(msgs, s.d.Account, s.d.Stream, i.Keys)
	s.trusted = i.trusted(s.index, msgs, numbers, &s.d)
	s.changes = i.missing(&s.d, s.trusted, numbers)
	if s.index == nil && len(numbers) == 0 { // a stream has a block from its beginning on
		s.changes, s.d.Repeat, s.d.Ranges = true, true, [][2]uint64{{1, 1}}
		i.Logger.Error("all blocks of a stream are missing", "stream", s.d.Stream, "account", s.d.Account, "blocks", msgs)
	}
	for at, n := range numbers {
		if err := s.block(blockFile(msgs, n), n, at == len(numbers)-1); err != nil {
			return err
		}
	}
	if !s.changes {
		return nil
	}
	s.markRemoved()
	return i.mendStream(&s.d, msgs, s.mended)
}

// block checks one block, unless it is as it was when the store was closed.
func (s *streamCheck) block(path string, n int, last bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.ModTime().Before(s.since) && s.cutAt == 0 && (!last || !s.changes) {
		return nil
	}
	c, seal, err := s.check(path, n, &s.d)
	if err != nil {
		return err
	}
	if s.cutAt > 0 && c.first > s.cutAt+1 {
		s.d.Ranges = append(s.d.Ranges, [2]uint64{s.cutAt + 1, c.first - 1})
	}
	s.removed = append(s.removed, c.removed...)
	if s.Replicated && last && c.torn && s.since.IsZero() {
		return nil // a server that loses power leaves such an end: it cuts it, and reads on from the others
	}
	s.trusted.compare(n, info.Size(), &c, newBlock(s.d.Stream, n), !s.since.IsZero())
	if last && c.cut && len(c.lost) == 0 && c.last == 0 && s.since.IsZero() { // else before is not known
		c.loseAll(s.before+1, newBlock(s.d.Stream, n))
	}
	s.before = max(s.before, c.last)
	if last && s.changes && c.mended == nil {
		c.mended = c.whole // what was deleted is repeated there
	}
	if s.cutAt = 0; c.mended != nil {
		s.mend(path, n, last, &c, seal)
	}
	return nil
}

// mend notes what a block has lost, and how it is mended.
func (s *streamCheck) mend(path string, n int, last bool, c *checked, seal func([]byte) error) {
	if c.cut && !last {
		s.cutAt = max(s.before, 1)
	}
	c.mended = append(c.mended, s.index.deletions(newBlock(s.d.Stream, n))...)
	s.changes = true
	d := &s.d
	d.Ranges = append(d.Ranges, c.lost...)
	d.Messages, d.Doubtful = append(d.Messages, c.named...), append(d.Doubtful, c.doubtful...)
	d.Repeat = d.Repeat || last && c.cut
	d.Files = append(d.Files, path)
	s.mended = append(s.mended, func() error { return replace(path, c.mended, seal) })
	if len(c.lost) > 0 || c.cut {
		s.Logger.Error("a block of the store is damaged", "stream", d.Stream, "account", d.Account, "block", path, "lost", c.lost)
	}
}

// markRemoved marks those messages among the damage that had been deleted before.
func (s *streamCheck) markRemoved() {
	slices.Sort(s.removed)
	for _, list := range [][]Message{s.d.Messages, s.d.Doubtful} {
		for n := range list {
			_, found := slices.BinarySearch(s.removed, list[n].Seq)
			list[n].Removed = found || s.index.removed(list[n].Seq)
		}
	}
}
