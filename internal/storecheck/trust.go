package storecheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// What an index says of messages is true of the moment at which it was written. Since
// then the server may have removed them, and written their block anew without them, or
// removed its file. Of those that somebody removed it leaves a record in a later
// block. Of those that a newer message of their subject has replaced it leaves none,
// and these are most of what there is in a stream that keeps the last of each subject.

// trusted returns the index as far as what it lists and the files lack is damage; nil
// if that says nothing.
//
// The index of a server that was killed says nothing in a cluster either: were it
// wrong there, it would be wrong on all servers that were killed together. All of
// their copies would go aside, and none would be left to come again from.
func (i *inspection) trusted(index *storeIndex, msgs string, numbers []int, d *Damage) *storeIndex {
	if index == nil || !i.since.IsZero() || len(numbers) == 0 {
		return index
	}
	if i.Replicated || i.keepsLast(msgs, d) {
		return nil
	}
	index.gone = sync.OnceValue(func() []uint64 { return i.tombstones(msgs, numbers, d) })
	return index
}

// keepsLast reports whether a stream keeps the last message of each subject only.
func (i *inspection) keepsLast(msgs string, d *Damage) bool {
	stream := filepath.Dir(msgs)
	meta, err := os.ReadFile(filepath.Join(stream, "meta.inf"))
	if err != nil {
		return false
	}
	if sealedKey, err := os.ReadFile(filepath.Join(stream, "meta.key")); err == nil {
		meta = openIndex(meta, sealedKey, d.Account, d.Stream, i.Keys)
	}
	var config struct {
		PerSubject int64 `json:"max_msgs_per_subject"`
	}
	return json.Unmarshal(meta, &config) == nil && config.PerSubject == 1
}

// tombstones returns the sequences of which a block says that they were removed, in
// order. A block that cannot be read says nothing.
func (i *inspection) tombstones(msgs string, numbers []int, d *Damage) (seqs []uint64) {
	counted := i.blocks
	for _, n := range numbers {
		if c, _, err := i.check(blockFile(msgs, n), n, d); err == nil {
			seqs = append(seqs, c.removed...)
		}
	}
	i.blocks = counted
	slices.Sort(seqs)
	return seqs
}

// accounted reports whether all messages that a block had from a sequence on were
// removed since the index was written.
func (x *storeIndex) accounted(b indexed, first uint64) bool {
	if x.gone == nil || first > b.last {
		return false
	}
	gone := x.gone()
	for seq := first; seq <= b.last; seq++ {
		if _, removed := slices.BinarySearch(gone, seq); !removed && (b.deleted == nil || !b.deleted.Exists(seq)) {
			return false
		}
	}
	return true
}
