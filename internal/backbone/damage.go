package backbone

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// nats-server cuts a block of its store at the first record whose checksum is
// wrong, and gives the sequences behind it out again. So before it opens the
// store, all blocks that may have changed since it was closed in order are
// checked. Of a damaged one a link is kept in DIR/damaged. With one copy it is
// mended: what cannot be read becomes a deleted message, and what lies behind it
// stays under its sequence. In a cluster all of the stream goes aside, and comes
// again from another server.

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
	// Repeat says that sequences may be given out again, since what stood at the
	// end is gone.
	Repeat bool `json:"repeat,omitempty"`
}

// Names in the data directory.
const (
	damagedDir = "damaged"
	closedFile = "closed" // is there, and newer than all blocks, after a stop in order
)

// inspection checks the store of one data directory.
type inspection struct {
	dir        string
	server     string
	replicated bool
	keys       []string // of the store, if it is encrypted
	since      time.Time
	log        *slog.Logger
	blocks     int
}

// inspect checks the store, and mends it or moves it aside.
func (s *Server) inspect() error {
	dir := s.opts.Dir
	i := &inspection{
		dir: dir, server: s.natsOpts.ServerName, replicated: s.Clustered(), log: s.log,
		keys: []string{s.natsOpts.JetStreamKey, s.natsOpts.JetStreamOldKey},
	}
	closed := filepath.Join(dir, closedFile)
	if info, err := os.Stat(closed); err == nil {
		i.since = info.ModTime()
	}
	began := time.Now()
	streams, err := filepath.Glob(filepath.Join(escapeGlob(dir), server.JetStreamStoreDir, "*", "streams", "*", "msgs"))
	if err != nil {
		return fmt.Errorf("backbone: %w", err)
	}
	for _, msgs := range streams {
		if err := i.stream(msgs); err != nil {
			return fmt.Errorf("backbone: check the store: %w", err)
		}
	}
	if i.blocks > 0 {
		s.log.Info("blocks of the store checked", "blocks", i.blocks, "took", time.Since(began).Round(time.Millisecond))
	}
	if err := os.Remove(closed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	return nil
}

// closedInOrder leaves a mark behind a stop.
func (s *Server) closedInOrder() error {
	return writeFile(filepath.Join(s.opts.Dir, closedFile), "")
}

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

// stream checks one stream.
func (i *inspection) stream(msgs string) error {
	stream := filepath.Dir(msgs)
	d := Damage{
		Account: filepath.Base(filepath.Dir(filepath.Dir(stream))), Stream: filepath.Base(stream),
		Server: i.server, At: time.Now().UTC(),
	}
	if strings.HasPrefix(d.Stream, ".") {
		return nil // about to be removed
	}
	numbers, err := listBlocks(msgs)
	if err != nil {
		return err
	}
	index := readIndex(msgs, d.Account, d.Stream, i.keys)
	changes := i.missing(&d, index, numbers)
	var mended []func() error
	cutAt := uint64(0) // the last sequence of the block before, of which the end is gone
	for at, n := range numbers {
		path := blockFile(msgs, n)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		last := at == len(numbers)-1
		if info.ModTime().Before(i.since) && cutAt == 0 && (!last || !changes) {
			continue
		}
		c, seal, err := i.check(path, n, &d)
		if err != nil {
			return err
		}
		if cutAt > 0 && c.first > cutAt+1 {
			d.Ranges = append(d.Ranges, [2]uint64{cutAt + 1, c.first - 1})
		}
		index.compare(n, info.Size(), &c, newBlock(d.Stream, n), !i.since.IsZero())
		if last && changes && c.mended == nil {
			c.mended = c.whole // what was deleted is repeated there
		}
		if cutAt = 0; c.mended == nil {
			continue
		}
		if c.cut && !last {
			cutAt = max(c.last, 1)
		}
		c.mended = append(c.mended, index.deletions(newBlock(d.Stream, n))...)
		changes = true
		d.Ranges = append(d.Ranges, c.lost...)
		d.Repeat = d.Repeat || last && c.cut
		d.Files = append(d.Files, path)
		mended = append(mended, func() error { return replace(path, c.mended, seal) })
		if len(c.lost) == 0 && !c.cut {
			continue
		}
		i.log.Error("a block of the store is damaged", "stream", d.Stream, "account", d.Account, "block", path, "lost", c.lost)
	}
	if !changes {
		return nil
	}
	return i.settle(&d, msgs, mended)
}

// missing notes the blocks that the index has and the directory has not. Those
// before the first are gone with age.
func (i *inspection) missing(d *Damage, index *storeIndex, numbers []int) bool {
	if index == nil {
		return false
	}
	found := false
	for _, b := range index.blocks {
		if b.last < b.first || b.messages == 0 || slices.Contains(numbers, b.number) || len(numbers) > 0 && b.number < numbers[0] {
			continue
		}
		found = true
		d.Ranges = append(d.Ranges, [2]uint64{b.first, b.last})
		d.Repeat = d.Repeat || len(numbers) == 0 || b.number > numbers[len(numbers)-1]
		i.log.Error("a block of the store is missing", "stream", d.Stream, "account", d.Account, "block", b.number, "first", b.first, "last", b.last)
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
		crypted := func(b []byte) error { return crypt(b, key, d.Account, d.Stream, n, i.keys...) }
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

// settle keeps what is damaged, mends or moves it, and leaves a report. The
// report comes first, so that a crash on the way loses no word of it.
func (i *inspection) settle(d *Damage, msgs string, mended []func() error) error {
	aside := filepath.Join(i.dir, damagedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	slices.SortFunc(d.Ranges, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	if len(d.Ranges) > 0 {
		d.First = d.Ranges[0][0]
	}
	name := fmt.Sprintf("%s.%s.%s", d.At.Format("20060102T150405.000"), d.Account, d.Stream)
	if i.replicated {
		d.Files, d.Ranges, d.Repeat = []string{name}, nil, false
		if err := i.report(d, name); err != nil {
			return err
		}
		i.log.Error("this server's copy of a stream goes aside, and comes again from the others", "stream", d.Stream, "aside", filepath.Join(aside, name))
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
	return syncPath(msgs)
}

// reportEnd is that of a report which nobody was told yet.
const reportEnd = ".report.json"

func (i *inspection) report(d *Damage, name string) error {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(i.dir, damagedDir, name+reportEnd), string(text))
}

// replace writes a block anew; what was linked keeps the old content.
func replace(path string, content []byte, seal func([]byte) error) error {
	if err := seal(content); err != nil {
		return err
	}
	return writeFile(path, string(content))
}

// Untold lists the damage that was found in an account's streams, at this start
// or an earlier one, and that nobody was told of; told is called when they were.
func (s *Server) Untold(account string) (list []Damage, told func() error, err error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(s.opts.Dir), damagedDir, "*."+account+".*"+reportEnd))
	if err != nil {
		return nil, nil, fmt.Errorf("backbone: %w", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("backbone: %w", err)
		}
		var d Damage
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, nil, fmt.Errorf("backbone: %s: %w", path, err)
		}
		list = append(list, d)
	}
	return list, func() error {
		for _, path := range paths {
			if err := os.Rename(path, strings.TrimSuffix(path, reportEnd)+".told.json"); err != nil {
				return fmt.Errorf("backbone: %w", err)
			}
		}
		return nil
	}, nil
}
