package storecheck

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Of a store without an index, such as a server leaves that is killed soon after
// it was started: what is gone is told, though nothing says how much it was.
func TestBlocksOfWhichNothingIsLeftAreTold(t *testing.T) {
	t.Parallel()
	_, one := recordsFrom(1, 1, 3)
	_, two := recordsFrom(2, 4, 3)
	zeros := bytes.Repeat([]byte{0}, 900)
	for name, c := range map[string]struct {
		blocks [][]byte
		want   [][2]uint64
		repeat bool
	}{
		"nothing is gone":           {[][]byte{one, two}, nil, false},
		"nothing was stored yet":    {[][]byte{{}}, nil, false},
		"the only block is zeros":   {[][]byte{zeros}, [][2]uint64{{1, 1}}, true},
		"the only block is deleted": {nil, [][2]uint64{{1, 1}}, true},
		"the last block is zeros":   {[][]byte{one, zeros}, [][2]uint64{{4, 4}}, true},
		"a block in the middle is zeros": {func() [][]byte {
			_, three := recordsFrom(3, 7, 3)
			return [][]byte{one, zeros, three}
		}(), [][2]uint64{{4, 6}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			msgs := filepath.Join(dir, "jetstream", "ACCOUNT", "streams", "S", "msgs")
			if err := os.MkdirAll(msgs, 0o700); err != nil {
				t.Fatal(err)
			}
			for n, buf := range c.blocks {
				if err := os.WriteFile(blockFile(msgs, n+1), buf, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := Run(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			list, _, err := Untold(dir, "ACCOUNT")
			if err != nil || len(list) > 1 {
				t.Fatal(list, err)
			}
			var d Damage
			if len(list) == 1 {
				d = list[0]
			}
			if !slices.Equal(d.Ranges, c.want) || !slices.Equal(d.Unknown, c.want) || d.Repeat != c.repeat {
				t.Errorf("told %v, of unknown devices %v, repeat %t; want %v, repeat %t", d.Ranges, d.Unknown, d.Repeat, c.want, c.repeat)
			}
		})
	}
}
