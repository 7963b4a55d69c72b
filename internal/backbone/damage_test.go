package backbone_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/storecheck"
)

// store is a stream that a real server wrote, and the files of its blocks.
type storedStream struct {
	trust  *trust
	opts   backbone.Options
	msgs   string
	blocks []string
	stored map[uint64]string
}

const damagedMessages = 400

// newStoredStream stores messages, some deleted, in several blocks, and stops
// the server, in order or as SIGKILL does.
func newStoredStream(t *testing.T, key string, killed bool) *storedStream {
	t.Helper()
	f := &storedStream{trust: newTrust(t), stored: map[uint64]string{}}
	f.opts = f.trust.options(filepath.Join(t.TempDir(), "data"))
	f.opts.StoreKey = key
	s := start(t, f.opts)
	user, _ := f.trust.user(t)
	js := jetStream(t, dial(t, s, user))
	// A bound on bytes makes the blocks small.
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, MaxBytes: 127_000, AllowDirect: true})
	must(t, stream, err)
	for n := range damagedMessages {
		text := fmt.Sprintf("message %d %s", n, bytes.Repeat([]byte("x"), 200+n%50))
		ack, err := js.Publish(t.Context(), fmt.Sprint("s.", n%7), []byte(text))
		must(t, ack, err)
		f.stored[ack.Sequence] = text
	}
	for _, seq := range []uint64{3, 50, 51, 399} {
		must(t, 0, stream.DeleteMsg(t.Context(), seq))
		delete(f.stored, seq)
	}
	dir := f.opts.Dir
	if killed {
		copied := filepath.Join(t.TempDir(), "data")
		must(t, 0, os.CopyFS(copied, os.DirFS(dir)))
		must(t, 0, filepath.Walk(copied, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Chmod(path, info.Mode()&^0o007)
		}))
		f.opts.Dir = copied
	}
	stop(t, s)
	f.msgs = filepath.Join(f.opts.Dir, "jetstream", public(t, f.trust.tenant), "streams", "S", "msgs")
	f.blocks, err = filepath.Glob(filepath.Join(f.msgs, "*.blk"))
	must(t, f.blocks, err)
	slices.SortFunc(f.blocks, func(a, b string) int { return len(a)*1000 - len(b)*1000 + bytes.Compare([]byte(a), []byte(b)) })
	if len(f.blocks) < 3 {
		t.Fatalf("%d blocks: too few for the test", len(f.blocks))
	}
	return f
}

// account starts a server on what is left, and accounts for every message: it is
// there as it was, or told as lost.
func (f *storedStream) account(t *testing.T) (lost int, d storecheck.Damage) {
	t.Helper()
	s := start(t, f.opts)
	user, _ := f.trust.user(t)
	js := jetStream(t, dial(t, s, user))
	list, told, err := storecheck.Untold(f.opts.Dir, public(t, f.trust.tenant))
	must(t, list, err)
	must(t, 0, told())
	if len(list) > 1 {
		t.Fatalf("told %d times: %+v", len(list), list)
	}
	if len(list) == 1 {
		d = list[0]
		for _, name := range d.Files {
			if _, err := os.Stat(filepath.Join(f.opts.Dir, "damaged", name)); err != nil {
				t.Errorf("what was damaged is not kept: %v", err)
			}
		}
	}
	stream, err := js.Stream(t.Context(), "S")
	must(t, stream, err)
	state := stream.CachedInfo().State
	t.Logf("first %d, last %d, %d messages; told %+v", state.FirstSeq, state.LastSeq, state.Msgs, d)
	inRange := func(seq uint64) bool {
		return slices.ContainsFunc(d.Ranges, func(r [2]uint64) bool { return r[0] <= seq && seq <= r[1] })
	}
	for seq := uint64(1); seq <= damagedMessages; seq++ {
		want, stored := f.stored[seq]
		msg, err := stream.GetMsg(t.Context(), seq)
		switch {
		case err == nil && (!stored || string(msg.Data) != want):
			t.Errorf("%d is %q, want %q", seq, msg.Data, want)
		case err != nil && stored && !inRange(seq):
			t.Errorf("%d is gone and nobody is told: %v", seq, err)
		case err == nil && inRange(seq):
			t.Errorf("%d is told as lost, and is there", seq)
		case err != nil && stored:
			lost++
		}
	}
	ack, err := js.Publish(t.Context(), "s.0", []byte("next"))
	must(t, ack, err)
	if ack.Sequence <= damagedMessages && !d.Repeat {
		t.Errorf("sequence %d is given out again, and nobody is told", ack.Sequence)
	}
	stop(t, s)
	if _, again := f.again(t); again {
		t.Error("damage is found again after it was mended")
	}
	return lost, d
}

// again starts once more.
func (f *storedStream) again(t *testing.T) (list []storecheck.Damage, found bool) {
	t.Helper()
	s := start(t, f.opts)
	list, _, err := storecheck.Untold(f.opts.Dir, public(t, f.trust.tenant))
	must(t, list, err)
	stop(t, s)
	return list, len(list) > 0
}

func (f *storedStream) edit(t *testing.T, block int, change func([]byte) []byte) {
	t.Helper()
	path := f.blocks[block]
	buf, err := os.ReadFile(path)
	must(t, buf, err)
	must(t, 0, os.WriteFile(path, change(buf), 0o600))
}

func TestDamagedBlocksAreMendedAndEveryMessageIsAccountedFor(t *testing.T) {
	t.Parallel()
	flip := func(at func(size int) int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[at(len(b))] ^= 0x10
			return b
		}
	}
	middle := flip(func(n int) int { return n / 2 })
	for name, c := range map[string]struct {
		damage       func(t *testing.T, f *storedStream)
		least, most  int
		repeats, any bool // repeats is the test's to know, unless any
	}{
		"none":                        {func(*testing.T, *storedStream) {}, 0, 0, false, false},
		"a flipped bit":               {func(t *testing.T, f *storedStream) { f.edit(t, 1, middle) }, 0, 1, false, false},
		"a flipped bit of each block": {func(t *testing.T, f *storedStream) { f.edit(t, 0, middle); f.edit(t, 1, middle) }, 0, 2, false, false},
		"a flipped bit of a length":   {func(t *testing.T, f *storedStream) { f.edit(t, 0, flip(func(int) int { return 1 })) }, 1, 2, false, false},
		"a flipped bit of the last": {func(t *testing.T, f *storedStream) {
			f.edit(t, len(f.blocks)-1, flip(func(n int) int { return n - 9 }))
		}, 0, 1, true, true},
		"zeros in the middle": {func(t *testing.T, f *storedStream) {
			f.edit(t, 1, func(b []byte) []byte { clear(b[len(b)/3 : len(b)/2]); return b })
		}, 2, 60, false, false},
		"a cut block": {func(t *testing.T, f *storedStream) { f.edit(t, 1, func(b []byte) []byte { return b[:len(b)/2] }) }, 1, 100, false, false},
		"a cut end": {func(t *testing.T, f *storedStream) {
			f.edit(t, len(f.blocks)-1, func(b []byte) []byte { return b[:len(b)-30] })
		}, 0, 100, true, true},
		"a deleted block in the middle": {func(t *testing.T, f *storedStream) { must(t, 0, os.Remove(f.blocks[1])) }, 1, 150, false, false},
		"a deleted block at the end":    {func(t *testing.T, f *storedStream) { must(t, 0, os.Remove(f.blocks[len(f.blocks)-1])) }, 1, 150, true, false},
	} {
		for _, key := range []string{"", "0123456789abcdef0123456789abcdef"} {
			t.Run(fmt.Sprintf("%s, encrypted %t", name, key != ""), func(t *testing.T) {
				t.Parallel()
				f := newStoredStream(t, key, false)
				c.damage(t, f)
				lost, d := f.account(t)
				if lost < c.least || lost > c.most {
					t.Errorf("%d messages were lost, want %d to %d: %+v", lost, c.least, c.most, d)
				}
				if !c.any && d.Repeat != c.repeats {
					t.Errorf("sequences may repeat: %t, want %t", d.Repeat, c.repeats)
				}
			})
		}
	}
}

// A server that was killed has no index that is up to date.
func TestDamageAfterAKillLosesWhatIsDamagedAlone(t *testing.T) {
	t.Parallel()
	f := newStoredStream(t, "", true)
	f.edit(t, 0, func(b []byte) []byte {
		b[len(b)/3] ^= 1
		return b
	})
	if lost, d := f.account(t); lost > 1 {
		t.Errorf("one bit cost %d messages: %+v", lost, d)
	}
}

// Of a message whose content is damaged it is known whose it was, and whether it
// had been removed before.
func TestOfADamagedMessageItIsKnownWhoseItWas(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	opts := tr.options(filepath.Join(t.TempDir(), "data"))
	s := start(t, opts)
	user, _ := tr.user(t)
	js := jetStream(t, dial(t, s, user))
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, AllowDirect: true})
	must(t, stream, err)
	for n := range 6 {
		m := nats.NewMsg("s.all")
		if n == 5 {
			m.Subject = "s.one" // which nothing confirms
		}
		m.Header.Set("Rccs-Id", fmt.Sprint("id ", n))
		m.Data = fmt.Appendf(nil, "message %d", n)
		ack, err := js.PublishMsg(t.Context(), m)
		must(t, ack, err)
	}
	must(t, 0, stream.DeleteMsg(t.Context(), 2))
	stop(t, s)
	blocks, err := filepath.Glob(filepath.Join(opts.Dir, "jetstream", public(t, tr.tenant), "streams", "S", "msgs", "*.blk"))
	must(t, blocks, err)
	must(t, 0, os.Remove(filepath.Join(opts.Dir, "closed"))) // as after a kill: all is checked
	buf, err := os.ReadFile(blocks[0])
	must(t, buf, err)
	for _, text := range []string{"message 1", "message 3", "message 5"} {
		buf[bytes.Index(buf, []byte(text))] ^= 1
	}
	must(t, 0, os.WriteFile(blocks[0], buf, 0o600))

	stop(t, start(t, opts))
	list, _, err := storecheck.Untold(opts.Dir, public(t, tr.tenant))
	must(t, list, err)
	if len(list) != 1 || len(list[0].Messages) != 2 || len(list[0].Doubtful) != 1 {
		t.Fatalf("found %+v", list)
	}
	for i, m := range append(list[0].Messages, list[0].Doubtful...) {
		want := []string{"id 1 of s.all", "id 3 of s.all", "id 5 of s.one"}[i]
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil || h.Get("Rccs-Id")+" of "+m.Subject != want || m.Removed != (i == 0) {
			t.Errorf("found %+v with %v (%v), want %s", m, h, err, want)
		}
	}
}

// A file of the store that is deleted while the server runs is told after the next
// start, also if the server has found out and counts its messages as removed.
func TestABlockThatIsDeletedUnderARunningServerIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		block func(f *storedStream) int
		read  bool
	}{
		"the first, and nobody reads it":    {func(*storedStream) int { return 0 }, false},
		"the first, and it is read":         {func(*storedStream) int { return 0 }, true},
		"one in the middle":                 {func(*storedStream) int { return 1 }, false},
		"one in the middle, and it is read": {func(*storedStream) int { return 1 }, true},
		"the last, while it is written":     {func(f *storedStream) int { return len(f.blocks) - 1 }, false},
		"the last, and all of it is read":   {func(f *storedStream) int { return len(f.blocks) - 1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newStoredStream(t, "", false)
			s := start(t, f.opts)
			must(t, 0, os.Remove(f.blocks[c.block(f)]))
			if c.read {
				user, _ := f.trust.user(t)
				js := jetStream(t, dial(t, s, user))
				stream, err := js.Stream(t.Context(), "S")
				must(t, stream, err)
				for seq := range f.stored {
					_, _ = stream.GetMsg(t.Context(), seq) // some cannot be read
				}
			}
			stop(t, s)
			if lost, d := f.account(t); lost == 0 || len(d.Ranges) == 0 {
				t.Errorf("%d are lost, and told is %+v", lost, d)
			}
		})
	}
}
