package chaos_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/layout"
)

// spoil is one way to damage a file.
type spoil struct {
	name string
	// end: what is gone may be the end of the stream. After a kill nobody knows
	// how far that went, as after a loss of power.
	end bool
	do  func(path string, rnd *rand.Rand) error
}

// endBytes at the end of a file are not damaged by a spoil that is none of its end.
const endBytes = 8 << 10

var spoils = []spoil{
	{"a flipped bit", false, func(path string, rnd *rand.Rand) error {
		return edit(path, func(b []byte) []byte {
			b[rnd.IntN(max(1, len(b)-endBytes))] ^= 1 << rnd.IntN(8)
			return b
		})
	}},
	{"zeros", false, func(path string, rnd *rand.Rand) error {
		return edit(path, func(b []byte) []byte {
			at := rnd.IntN(max(1, len(b)-endBytes))
			clear(b[at:min(len(b), at+1+rnd.IntN(2000))])
			return b
		})
	}},
	{"a cut end", true, func(path string, rnd *rand.Rand) error {
		return edit(path, func(b []byte) []byte { return b[:len(b)-1-rnd.IntN(min(len(b), 5000))] })
	}},
	{"a deleted file", true, func(path string, _ *rand.Rand) error { return os.Remove(path) }},
}

// stop ends a process as befits the damage that follows.
func (p *proc) stop(how spoil, rnd *rand.Rand) {
	p.t.Helper()
	if how.end || rnd.IntN(2) == 0 {
		p.signal(syscall.SIGTERM)
	} else {
		p.signal(syscall.SIGKILL)
	}
}

// edit changes a file that is not empty.
func edit(path string, change func([]byte) []byte) error {
	buf, err := os.ReadFile(path)
	if err != nil || len(buf) == 0 {
		return err
	}
	return os.WriteFile(path, change(buf), 0o600)
}

// damagedStreams are those whose files are damaged: messages, what of them is
// acknowledged, and what devices are.
var damagedStreams = []string{layout.StreamInbox, layout.StreamCursor, "KV_" + layout.BucketDevices}

// blocks are the block files of a stream of the default tenant, oldest first.
func blocks(t *testing.T, data, stream string) []string {
	t.Helper()
	var fullest []string
	accounts, err := filepath.Glob(filepath.Join(data, "jetstream", "A*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range accounts {
		paths, err := filepath.Glob(filepath.Join(account, "streams", stream, "msgs", "*.blk"))
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) > len(fullest) {
			fullest = paths
		}
	}
	slices.SortFunc(fullest, func(a, b string) int { return number(a) - number(b) })
	return fullest
}

// number is that of a block file.
func number(path string) (n int) {
	for _, c := range filepath.Base(path) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// damageFiles damages one of the last blocks of a stream.
func damageFiles(t *testing.T, data, stream string, how spoil, rnd *rand.Rand) {
	t.Helper()
	files := blocks(t, data, stream)
	if len(files) == 0 {
		return // nothing is stored there
	}
	path := files[max(0, len(files)-1-rnd.IntN(2))]
	if err := how.do(path, rnd); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s", how.name, path)
}
