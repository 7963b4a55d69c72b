package storecheck

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/private"
)

// Damage is what was found in the files of one stream.
type Damage struct {
	Account string    `json:"account"` // the public key
	Stream  string    `json:"stream"`
	Server  string    `json:"server"`
	At      time.Time `json:"at"`
	// Files are those that are kept in DIR/damaged.
	Files []string `json:"files"`
	// Ranges are the sequences, first and last, of messages that are gone. Some
	// may have been removed before. In a cluster there is another copy of them,
	// and First is the first that had to come from there.
	Ranges [][2]uint64 `json:"ranges,omitempty"`
	First  uint64      `json:"first,omitempty"`
	// Messages are those of Ranges of which it is known whose they were, and
	// Unknown are the others. Doubtful are those of Unknown that are as they were
	// read, while any part may be wrong.
	Messages []Message   `json:"messages,omitempty"`
	Unknown  [][2]uint64 `json:"unknown,omitempty"`
	Doubtful []Message   `json:"doubtful,omitempty"`
	// Repeat says that sequences may be given out again, since what stood at the
	// end is gone.
	Repeat bool `json:"repeat,omitempty"`
}

// Names in the data directory.
const (
	damagedDir = "damaged"
	closedFile = "closed" // is there, and newer than all blocks, after a stop in order
)

// Message is one that is gone.
type Message struct {
	Seq     uint64 `json:"seq"`
	Subject string `json:"subject"`
	// Header is as it was found, and may be what is damaged.
	Header []byte `json:"header,omitempty"`
	// Removed: the message had been removed before.
	Removed bool `json:"removed,omitempty"`
}

// Options say what to check.
type Options struct {
	// Dir is the data directory. Needed.
	Dir string
	// Server is the name of the one that is to open the store.
	Server string
	// Replicated: there are other copies.
	Replicated bool
	// Keys of an encrypted store; empty ones are passed over.
	Keys []string
	// Logger is told of damage. Needed.
	Logger *slog.Logger
}

// inspection is the check of one store.
type inspection struct {
	Options
	since  time.Time // it was closed in order; zero: it was not
	blocks int
}

// Run checks a store, and mends it or moves it aside.
func Run(o Options) error {
	if err := (&inspection{Options: o}).run(); err != nil {
		return fmt.Errorf("storecheck: %w", err)
	}
	return nil
}

func (i *inspection) run() error {
	closed := filepath.Join(i.Dir, closedFile)
	if info, err := os.Stat(closed); err == nil {
		i.since = info.ModTime()
	}
	began := time.Now()
	streams, err := list(filepath.Join(i.Dir, "jetstream"), "*", "streams", "*", "msgs")
	if err != nil {
		return err
	}
	for _, msgs := range streams {
		if err := i.stream(msgs); err != nil {
			return err
		}
	}
	if i.blocks > 0 {
		i.Logger.Info("blocks of the store checked", "blocks", i.blocks, "took", time.Since(began).Round(time.Millisecond))
	}
	if err := os.Remove(closed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list is filepath.Glob below a directory whose name may hold any character.
func list(dir string, pattern ...string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), path.Join(pattern...))
	for n, name := range names {
		names[n] = filepath.Join(dir, filepath.FromSlash(name))
	}
	return names, err
}

// Closed marks a store as one that was closed in order.
func Closed(dir string) error { return private.Replace(filepath.Join(dir, closedFile), nil) }

// listBlocks finds a stream's block files by their numbers.
func listBlocks(msgs string) (numbers []int, err error) {
	entries, err := os.ReadDir(msgs)
	for _, e := range entries {
		var n int
		if name, isBlock := strings.CutSuffix(e.Name(), ".blk"); isBlock {
			if _, err := fmt.Sscanf(name, "%d", &n); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

func blockFile(msgs string, n int) string { return filepath.Join(msgs, fmt.Sprint(n, ".blk")) }

// missing notes the blocks that the index has and the directory has not. An index that
// was written when the store was closed in order has no others: of a block that it
// removes the server says so there. Of an older one those before the first are gone
// with age, and those without messages may be.
func (i *inspection) missing(d *Damage, index *storeIndex, numbers []int) bool {
	if index == nil {
		return false
	}
	found, current, before := false, !i.since.IsZero(), uint64(0)
	for _, b := range index.blocks {
		first := b.first
		if b.messages == 0 { // the server has found out, while it ran, that the file is gone
			first = before + 1
		}
		before = max(before, b.last)
		aged := b.messages == 0 || len(numbers) > 0 && b.number < numbers[0]
		if first > b.last || slices.Contains(numbers, b.number) || aged && !current || index.accounted(b, first) {
			continue
		}
		found = true
		d.Ranges = append(d.Ranges, [2]uint64{first, b.last})
		d.Repeat = d.Repeat || len(numbers) == 0 || b.number > numbers[len(numbers)-1]
		i.Logger.Error("a block of the store is missing", "stream", d.Stream, "account", d.Account, "block", b.number, "first", first, "last", b.last)
	}
	return found
}

// check reads a block. seal encrypts what is to be written instead.
func (i *inspection) check(path string, n int, d *Damage) (c checked, seal func([]byte) error, err error) {
	i.blocks++
	buf, err := os.ReadFile(path)
	if err != nil {
		return c, nil, err
	}
	seal = func([]byte) error { return nil }
	key, err := os.ReadFile(filepath.Join(filepath.Dir(path), fmt.Sprint(n, ".key")))
	switch {
	case err == nil:
		crypted := func(b []byte) error { return crypt(b, key, d.Account, d.Stream, n, i.Keys...) }
		if err := crypted(buf); err != nil {
			// nats-server removes such a block, without a word.
			return checked{mended: []byte{}, cut: true}, seal, nil
		}
		seal = crypted
	case !errors.Is(err, fs.ErrNotExist):
		return c, nil, err
	}
	if len(buf) > 4 && string(buf[:3]) == "cmp" && buf[3] == 1 {
		return c, nil, nil // compressed, which no stream of ours is
	}
	c = newBlock(d.Stream, n).check(buf)
	c.whole = buf
	return c, seal, nil
}

// mendStream keeps what is damaged aside, mends or moves it, and leaves a report. The
// report comes first, so that a crash on the way loses no word of it.
func (i *inspection) mendStream(d *Damage, msgs string, mended []func() error) error {
	aside := filepath.Join(i.Dir, damagedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	slices.SortFunc(d.Ranges, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	if len(d.Ranges) > 0 {
		d.First = d.Ranges[0][0]
	}
	name := fmt.Sprintf("%s.%s.%s", d.At.Format("20060102T150405.000"), d.Account, d.Stream)
	d.Unknown = without(d.Ranges, d.Messages)
	if i.Replicated {
		d.Files, d.Repeat = []string{name}, false
		d.Ranges, d.Messages, d.Unknown, d.Doubtful = nil, nil, nil, nil
		if err := i.report(d, name); err != nil {
			return err
		}
		i.Logger.Error("this server's copy of a stream goes aside, and comes again from the others", "stream", d.Stream, "aside", filepath.Join(aside, name))
		return os.Rename(msgs, filepath.Join(aside, name))
	}
	for n, path := range d.Files {
		kept := fmt.Sprint(name, ".", filepath.Base(path))
		if err := os.Link(path, filepath.Join(aside, kept)); err != nil {
			return err
		}
		d.Files[n] = kept
	}
	if err := i.report(d, name); err != nil {
		return err
	}
	for _, mend := range mended {
		if err := mend(); err != nil {
			return err
		}
	}
	// It says what the blocks were.
	if err := os.Remove(filepath.Join(msgs, "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return private.Sync(msgs)
}

// without is what is left of ranges without some messages. The ranges are in order.
func without(ranges [][2]uint64, messages []Message) (left [][2]uint64) {
	messages = slices.Clone(messages)
	slices.SortFunc(messages, func(a, b Message) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, r := range ranges {
		n, _ := slices.BinarySearchFunc(messages, r[0], func(m Message, seq uint64) int { return cmp.Compare(m.Seq, seq) })
		for ; n < len(messages) && messages[n].Seq <= r[1]; n++ {
			seq := messages[n].Seq
			if seq > r[0] {
				left = append(left, [2]uint64{r[0], seq - 1})
			}
			r[0] = seq + 1
		}
		if r[0] <= r[1] {
			left = append(left, r)
		}
	}
	return left
}

// reportEnd is that of a report which nobody was told yet.
const reportEnd = ".report.json"

func (i *inspection) report(d *Damage, name string) error {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return private.Replace(filepath.Join(i.Dir, damagedDir, name+reportEnd), text)
}

// replace writes a block anew; what was linked keeps the old content.
func replace(path string, content []byte, seal func([]byte) error) error {
	if err := seal(content); err != nil {
		return err
	}
	return private.Replace(path, content)
}

// Untold lists the damage that was found in an account's streams, at this start
// or an earlier one, and that nobody was told of; told is called when they were.
func Untold(dir, account string) (damage []Damage, told func() error, err error) {
	paths, err := list(filepath.Join(dir, damagedDir), "*."+account+".*"+reportEnd)
	if err != nil {
		return nil, nil, fmt.Errorf("storecheck: %w", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("storecheck: %w", err)
		}
		var d Damage
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, nil, fmt.Errorf("storecheck: %s: %w", path, err)
		}
		damage = append(damage, d)
	}
	return damage, func() error {
		for _, path := range paths {
			if err := os.Rename(path, strings.TrimSuffix(path, reportEnd)+".told.json"); err != nil {
				return fmt.Errorf("storecheck: %w", err)
			}
		}
		return nil
	}, nil
}
