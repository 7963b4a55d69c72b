package backup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/snapshot"
	"github.com/rccs-io/rccs/subjects"
)

// A restore may divide the users of a tenant anew. It writes the archives of the new
// shards' streams, and restores those in the place of what the backup has.
//
// The messages of all old shards are put in the order of time, and numbered by that
// order. Each new shard has the messages of its users under these numbers. So with
// one old shard no message gets another sequence, and with several whatever names a
// sequence of an inbox is rewritten.

// divide returns the backup with other numbers of shards, by tenant, and has the
// keys in dir say so. It writes below dir.
func (f *File) divide(dir string, shards map[string]int) (*File, error) {
	for _, name := range slices.Sorted(maps.Keys(shards)) {
		n, tenant := shards[name], name
		if name == auth.DefaultTenant {
			tenant = ""
		}
		if !slices.Contains(f.Manifest.tenants(), tenant) {
			return nil, noTenant(name)
		}
		have := f.Manifest.Shards(tenant)
		if n == have {
			continue
		}
		keys, err := auth.OpenKeystore(dir)
		if err == nil {
			keys, err = keys.Tenant(name)
		}
		if err == nil {
			_, err = keys.Divide(n)
		}
		if err != nil {
			return nil, err
		}
		d := &division{f: f, tenant: tenant, from: shard.All(have), to: shard.All(n), dir: filepath.Join(dir, "divided", name)}
		if f, err = d.run(); err != nil {
			return nil, fmt.Errorf("divide the users of %s: %w", name, err)
		}
	}
	return f, nil
}

// division divides the users of one tenant.
type division struct {
	f        *File
	tenant   string
	from, to []shard.Shard
	dir      string
	out      *File

	key   *proof.Key          // the tenant's; only with several old shards
	inbox []inbox.Renumbering // of the inbox streams, by old shard
	taken []uint64            // up to where each inbox stream has taken what was due
}

func (d *division) run() (*File, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	m := *d.f.Manifest
	m.Streams = nil
	d.out = &File{Manifest: &m, path: d.f.path, file: d.f.file, parts: maps.Clone(d.f.parts)}
	if err := d.loadKey(); err != nil {
		return nil, err
	}
	old := map[string][]*Stream{} // by their names in package layout, and by shard
	for i := range d.f.Manifest.Streams {
		s := &d.f.Manifest.Streams[i]
		in, plain := shard.Named(s.Name, len(d.from))
		if s.Tenant != d.tenant || !shard.Divided(plain) {
			m.Streams = append(m.Streams, *s)
			continue
		}
		if old[plain] == nil {
			old[plain] = make([]*Stream, len(d.from))
		}
		old[plain][in.N()] = s
	}
	names := slices.SortedFunc(maps.Keys(old), func(a, b string) int { return cmp.Or(turn(a, 1)-turn(b, 1), strings.Compare(a, b)) })
	made := map[string][]Stream{}
	for _, name := range append([]string{layout.StreamInbox}, names...) { // the others name its sequences
		if made[name] != nil {
			continue
		}
		if slices.Contains(old[name], nil) || old[name] == nil {
			return nil, fmt.Errorf("the backup has not the stream %s of each shard", name)
		}
		streams, err := d.stream(name, old[name])
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		made[name] = streams
	}
	for _, name := range names {
		m.Streams = append(m.Streams, made[name]...)
	}
	return d.out, d.events()
}

// loadKey reads the tenant's key, by which outcomes are signed.
func (d *division) loadKey() error {
	if len(d.from) == 1 {
		return nil
	}
	r, err := snapshot.NewReader(d.f.part(partOf(d.tenant, "KV_"+layout.BucketAccount)))
	for err == nil {
		var m *snapshot.Message
		if m, err = r.Next(); err == nil && m.Subject == layout.SecretSubject {
			d.key, err = proof.Parse(m.Body)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// source is the archive of one old shard.
type source struct {
	r    *snapshot.Reader
	next *snapshot.Message // nil: it is at its end
}

func (s *source) advance() (err error) {
	if s.next, err = s.r.Next(); errors.Is(err, io.EOF) {
		s.next, err = nil, nil
	}
	return err
}

// stream divides the messages of one stream.
func (d *division) stream(name string, old []*Stream) (made []Stream, err error) {
	o := newOrder(old)
	held := &common{d: d}
	last := o.sum()
	if name == layout.StreamCursor {
		last += maxCommon
	}
	out, err := d.archives(name, o.first, last)
	defer func() {
		for _, a := range out {
			err = errors.Join(err, a.file.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	if name == layout.StreamInbox {
		d.taken = make([]uint64, len(old))
		for n := range old {
			d.inbox = append(d.inbox, func(seq uint64) uint64 { return o.of(n, seq) })
		}
	}
	err = d.inOrder(old, func(n int, m *snapshot.Message) error {
		was := m.Seq
		if m.Seq, err = o.give(n, was); err != nil {
			return err
		}
		m.Subject = d.from[n].Plain(m.Subject)
		user := layout.Owner(m.Subject)
		switch {
		case name == "KV_"+layout.BucketEdges: // each shard may look for an edge that was
			return addTo(out, d.to, m)
		case user == "" && name == layout.StreamCursor:
			return held.hold(n, m)
		case user == "":
			return fmt.Errorf("message %d, on %s, is no user's", was, m.Subject)
		}
		to := shard.Of(user, len(d.to))
		if !d.rewrite(name, n, was, d.to[to], m) {
			return nil
		}
		return addTo(out[to:to+1], d.to[to:to+1], m)
	})
	if err != nil {
		return nil, err
	}
	o.end()
	if err := held.write(out, o.sum()); err != nil {
		return nil, err
	}
	return d.seal(name, old[0], out)
}

// inOrder calls each for the messages of all old shards, in the order of time.
func (d *division) inOrder(old []*Stream, each func(n int, m *snapshot.Message) error) error {
	sources := make([]source, len(old))
	for n := range old {
		r, err := snapshot.NewReader(d.f.part(old[n].Part))
		if err != nil {
			return err
		}
		sources[n].r = r
		if err := sources[n].advance(); err != nil {
			return err
		}
	}
	for {
		first := -1
		for n := range sources {
			if m := sources[n].next; m != nil && (first < 0 || m.Time < sources[first].next.Time) {
				first = n
			}
		}
		if first < 0 {
			return nil
		}
		if err := each(first, sources[first].next); err != nil {
			return err
		}
		if err := sources[first].advance(); err != nil {
			return err
		}
	}
}

// shardFile is the archive of a new shard's stream.
type shardFile struct {
	file *os.File
	w    *snapshot.Writer
}

// archives begins those of a stream, by new shard.
func (d *division) archives(name string, first, last uint64) ([]shardFile, error) {
	var out []shardFile
	for _, s := range d.to {
		file, err := os.Create(filepath.Join(d.dir, s.Stream(name))) // in a directory of mode 0700
		if err != nil {
			return out, err
		}
		w, err := snapshot.NewWriter(file, first, last)
		out = append(out, shardFile{file, w})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// addTo adds a message to archives, of these shards.
func addTo(out []shardFile, of []shard.Shard, m *snapshot.Message) error {
	plain := m.Subject
	for n := range out {
		m.Subject = of[n].Stored(plain)
		if err := out[n].w.Add(m); err != nil {
			return err
		}
	}
	return nil
}

// seal ends the archives of a stream, and has the new backup name them.
func (d *division) seal(name string, old *Stream, out []shardFile) ([]Stream, error) {
	var all []Stream
	for n, s := range d.to {
		made, err := out[n].w.Close()
		if err != nil {
			return nil, err
		}
		made.Name = s.Stream(name)
		if made.Config, err = configOf(old.Config, d.from[0], s, name); err != nil {
			return nil, err
		}
		one := Stream{Stream: *made, Tenant: d.tenant, Part: partOf(d.tenant, made.Name)}
		if d.out.parts[one.Part], err = section(out[n].file.Name()); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// configOf is the configuration of a shard's stream, made from that of another
// shard. It has no bound: with that of an old shard it might not hold what it is to
// hold. 'rccs serve' bounds it.
func configOf(config json.RawMessage, old, s shard.Shard, name string) (json.RawMessage, error) {
	var c jetstream.StreamConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("unreadable configuration: %w", err)
	}
	c.Name, c.SubjectTransform, c.MaxBytes = name, nil, -1
	for i := range c.Subjects {
		c.Subjects[i] = old.Plain(c.Subjects[i])
	}
	for _, source := range c.Sources {
		source.Name, _ = old.PlainStream(source.Name)
	}
	s.Place(&c)
	c.Name = s.Stream(name)
	return json.Marshal(&c)
}

// events rewrites the tenant's events: the id of each names a shard, and some a
// sequence.
func (d *division) events() error {
	i := slices.IndexFunc(d.out.Manifest.Streams, func(s Stream) bool { return s.Tenant == d.tenant && s.Name == subjects.StreamEvent })
	if i < 0 {
		return nil // as with any stream that is missing, 'rccs serve' makes it
	}
	s := &d.out.Manifest.Streams[i]
	file, err := os.Create(filepath.Join(d.dir, s.Name))
	if err != nil {
		return err
	}
	made, err := snapshot.Edit(d.f.part(s.Part), file, d.event)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	made.Name, made.Config = s.Name, s.Config
	s.Stream = *made
	d.out.parts[s.Part], err = section(file.Name())
	return err
}

// onDisk is a file that is open only while it is read: there are hundreds.
type onDisk string

func (name onDisk) ReadAt(p []byte, off int64) (int, error) {
	file, err := os.Open(string(name))
	if err != nil {
		return 0, err
	}
	n, err := file.ReadAt(p, off)
	return n, errors.Join(err, file.Close())
}

func section(path string) (*io.SectionReader, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(onDisk(path), 0, info.Size()), nil
}
