package storecheck

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// stale is an index that lists blocks of three messages each, and that a server wrote
// some time before it was killed.
func stale(blocks ...int) []byte {
	buf := []byte{11, 1}
	put := func(values ...uint64) {
		for _, v := range values {
			buf = binary.AppendUvarint(buf, v)
		}
	}
	signed := func() { buf = binary.AppendVarint(buf, 0) }
	put(uint64(3*len(blocks)), 900, 1)
	signed()
	put(uint64(3 * len(blocks)))
	signed()
	put(0, uint64(len(blocks)))
	for _, n := range blocks {
		put(uint64(n), 1<<20, uint64(3*n-2)) // more bytes than the file has now
		signed()
		put(uint64(3 * n))
		signed()
		put(0)
	}
	put(uint64(blocks[len(blocks)-1]))
	return append(buf, make([]byte, 2*checksumSize)...)
}

// What a server has removed in order, between its last index and a kill, is no damage:
// neither a block of which it kept a part, nor one of which it kept nothing. All
// servers of a cluster that are killed together would find it, and no copy be left.
func TestWhatWasRemovedBeforeAKillIsNoDamage(t *testing.T) {
	t.Parallel()
	_, whole := recordsFrom(1, 1, 3)
	_, kept := recordsFrom(1, 1, 1)
	_, two := recordsFrom(2, 4, 3)
	third, three := recordsFrom(3, 7, 3)
	removed := func(seqs ...uint64) []byte {
		buf := slices.Clone(three)
		for _, seq := range seqs {
			buf = append(buf, third.mark(seq|deletesBit)...)
		}
		return buf
	}
	torn := append(slices.Clone(three), third.message(10, "s", []byte("cut"))[:20]...)
	flipped := slices.Clone(two)
	flipped[len(flipped)/2] ^= 1
	const lastOnly, all = `{"max_msgs_per_subject":1}`, `{"max_msgs_per_subject":-1}`
	for name, c := range map[string]struct {
		meta       string
		replicated bool
		blocks     map[int][]byte
		want       [][2]uint64
		aside      bool
	}{
		"nothing is gone":                              {all, false, map[int][]byte{1: whole, 2: two, 3: three}, nil, false},
		"newer values have replaced the end":           {lastOnly, false, map[int][]byte{1: kept, 2: two, 3: three}, nil, false},
		"newer values have replaced a block":           {lastOnly, false, map[int][]byte{1: whole, 3: three}, nil, false},
		"the end of a block was removed":               {all, false, map[int][]byte{1: kept, 2: two, 3: removed(2, 3)}, nil, false},
		"a block was removed":                          {all, false, map[int][]byte{1: whole, 3: removed(4, 5, 6)}, nil, false},
		"of a block one was removed, and two are gone": {all, false, map[int][]byte{1: whole, 3: removed(5)}, [][2]uint64{{4, 6}}, true},
		"the end of a block is gone":                   {all, false, map[int][]byte{1: kept, 2: two, 3: three}, [][2]uint64{{2, 3}}, true},
		"a bit is flipped where newer values replace":  {lastOnly, false, map[int][]byte{1: whole, 2: flipped, 3: three}, [][2]uint64{{5, 5}}, true},
		"in a cluster, where an index may lie":         {all, true, map[int][]byte{1: kept, 3: three}, nil, false},
		"in a cluster, where power was lost":           {all, true, map[int][]byte{1: whole, 2: two, 3: torn}, nil, false},
		"in a cluster, where a bit is flipped":         {all, true, map[int][]byte{1: whole, 2: flipped, 3: three}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			stream := filepath.Join(dir, "jetstream", "ACCOUNT", "streams", "S")
			msgs := filepath.Join(stream, "msgs")
			if err := os.MkdirAll(msgs, 0o700); err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{filepath.Join(stream, "meta.inf"): []byte(c.meta), filepath.Join(msgs, "index.db"): stale(1, 2, 3)}
			for n, buf := range c.blocks {
				files[blockFile(msgs, n)] = buf
			}
			for path, content := range files {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := Run(Options{Dir: dir, Replicated: c.replicated, Logger: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			list, _, err := Untold(dir, "ACCOUNT")
			if err != nil || (len(list) == 1) != c.aside {
				t.Fatalf("found %+v, %v", list, err)
			}
			if len(list) == 1 && !c.replicated && !slices.Equal(list[0].Ranges, c.want) {
				t.Errorf("told %v, want %v", list[0].Ranges, c.want)
			}
		})
	}
}
