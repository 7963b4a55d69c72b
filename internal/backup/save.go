package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/snapshot"
	"github.com/rccs-io/rccs/subjects"
)

// SaveOptions say what to back up.
type SaveOptions struct {
	// Out is the file to make, or a directory that exists, in which it gets a
	// name from the time. Needed.
	Out string
	// Dial makes a connection in the tenant's account that may do all there.
	// Needed.
	Dial func(opts ...nats.Option) (*nats.Conn, error)
	// Tenants are the installation's other tenants, by name, with what makes
	// a connection in the account of each.
	Tenants map[string]func(opts ...nats.Option) (*nats.Conn, error)
	// Data is the installation's data directory, from which keys and account
	// JWTs are read; empty: they are left out.
	Data string
	// NoKeys leaves the keys out all the same.
	NoKeys bool
	// Config is a nats.conf to keep with it, or empty.
	Config string
	// Version of this program.
	Version string
	// Progress is told how many bytes of how many the server has sent; nil
	// ignores it. How many it will be is an estimate.
	Progress func(done, all int64)
}

// Save backs up a running installation, and returns the path of the file.
func Save(ctx context.Context, opts SaveOptions) (string, *Manifest, error) {
	path, m, err := save(ctx, opts)
	if err != nil {
		return "", nil, fmt.Errorf("backup: %w", err)
	}
	return path, m, nil
}

func save(ctx context.Context, opts SaveOptions) (string, *Manifest, error) {
	if opts.Out == "" || opts.Dial == nil {
		return "", nil, errors.New("SaveOptions.Out and Dial are needed")
	}
	if opts.Progress == nil {
		opts.Progress = func(int64, int64) {}
	}
	if info, err := os.Stat(opts.Out); err == nil && info.IsDir() {
		opts.Out = filepath.Join(opts.Out, "rccs-"+time.Now().UTC().Format("20060102T150405Z")+".tar")
	}
	w, err := create(opts.Out)
	if err != nil {
		return "", nil, err
	}
	defer w.abandon()
	w.m.Version = opts.Version
	if err := w.tenant(ctx, "", opts.Dial, opts.Progress); err != nil {
		return "", nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Tenants)) {
		if err := w.tenant(ctx, name, opts.Tenants[name], opts.Progress); err != nil {
			return "", nil, fmt.Errorf("tenant %s: %w; %s", name, err, allOthers(name))
		}
	}
	if err := w.installation(&opts); err != nil {
		return "", nil, err
	}
	m, err := w.seal()
	return opts.Out, m, err
}

// allOthers says how to go on without a tenant that cannot be backed up.
func allOthers(tenant string) string {
	return "to back up all others, repeat with --without-tenant " + tenant
}

// tenant adds what a tenant has stored; without a name it is the default one.
func (w *writer) tenant(ctx context.Context, name string, dial func(...nats.Option) (*nats.Conn, error), progress func(done, all int64)) error {
	nc, err := dial()
	if err != nil {
		return err
	}
	defer nc.Close()
	return w.streams(ctx, name, nc, progress)
}

// streams adds every stream of the account.
func (w *writer) streams(ctx context.Context, tenant string, nc *nats.Conn, progress func(done, all int64)) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	shards := auth.ShardsOf(nc)
	names, all, err := list(ctx, js, shards)
	if err != nil {
		return err
	}
	if err := shard.Compare(names, shards); err != nil {
		return err
	}
	for _, s := range shard.All(shards) {
		if name := s.Stream(layout.StreamInbox); !slices.Contains(names, name) {
			return fmt.Errorf("the account has no stream %s: is this the installation, and its tenant's credential?", name)
		}
		if err := awaitTaken(ctx, s.JetStream(js)); err != nil {
			return err
		}
	}
	d := direct.New(nc)
	if err := d.Start(); err != nil {
		return err
	}
	defer d.Stop()
	source := &snapshot.Source{Conn: nc, Direct: d, Dir: filepath.Dir(w.path)}
	var done int64
	for _, name := range names {
		err := w.stream(ctx, source, tenant, name, func(n int) {
			done += int64(n)
			progress(done, max(all, done))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// behindFor is how long the inbox stream may be behind what is due.
const (
	behindFor   = 30 * time.Second
	behindEvery = 100 * time.Millisecond
)

// awaitTaken waits until the inbox stream has taken what is due: a restore relies
// on it.
func awaitTaken(ctx context.Context, js jetstream.JetStream) error {
	for until := time.Now().Add(behindFor); ; {
		inbox, err := leader.Info(ctx, js, layout.StreamInbox)
		if err != nil {
			return err
		}
		behind := slices.ContainsFunc(inbox.Sources, func(s *jetstream.StreamSourceInfo) bool { return s.Lag > 0 })
		switch {
		case !behind:
			return nil
		case time.Now().After(until):
			return fmt.Errorf("the stream %s has been behind %s for %s: see 'rccs doctor', and try again", layout.StreamInbox, subjects.StreamLater, behindFor)
		}
		select {
		case <-time.After(behindEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list returns the streams of a tenant, by name, in the order in which to read
// them, and the sum of their bytes.
func list(ctx context.Context, js jetstream.JetStream, shards int) (names []string, bytes int64, err error) {
	lister := js.ListStreams(ctx)
	for info := range lister.Info() {
		names = append(names, info.Config.Name)
		bytes += int64(info.State.Bytes) //nolint:gosec // no store has 8 EiB
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := turn(a, shards) - turn(b, shards); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return names, bytes, lister.Err()
}

// turn orders the streams, so that nothing is lost between them. A cursor that
// is newer than the inbox would call messages acknowledged that are not there
// yet. What waits for a route, a device or a deadline is moved into an inbox,
// and so may be in both, but not in neither. The inbox stream remembers how far
// it has read what is due, which must not be further than that stream goes.
func turn(stream string, shards int) int {
	switch _, plain := shard.Named(stream, shards); plain {
	case layout.StreamCursor:
		return 0
	case layout.StreamInbox:
		return 2
	case subjects.StreamLater:
		return 3
	}
	return 1
}

// partOf is the name of the part that has a stream's messages.
func partOf(tenant, stream string) string {
	return streamsPrefix + path.Join(tenant, url.PathEscape(stream)+".s2")
}

// stream adds one. The length of a part stands before it, so it is made beside
// the file first.
func (w *writer) stream(ctx context.Context, source *snapshot.Source, tenant, name string, progress func(int)) (err error) {
	temp, err := os.CreateTemp(source.Dir, ".rccs-backup-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.Close(), os.Remove(temp.Name())) }()
	taken, err := source.Take(ctx, name, temp, progress)
	if err != nil {
		return err
	}
	size, err := temp.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	part := partOf(tenant, name)
	if err := w.add(part, size, io.NewSectionReader(temp, 0, size)); err != nil {
		return err
	}
	w.m.Streams = append(w.m.Streams, Stream{Stream: *taken, Tenant: tenant, Part: part})
	return nil
}

// installation adds what lies in the data directory beside the store. It comes
// last, so that no revocation is missing that a bucket knows of.
func (w *writer) installation(opts *SaveOptions) error {
	if opts.Config != "" {
		if err := w.small(configName, opts.Config); err != nil {
			return err
		}
	}
	if opts.Data == "" {
		return nil
	}
	if err := w.directory(accountsPrefix, filepath.Join(opts.Data, "accounts")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a machine with the keys alone has none
	}
	if opts.NoKeys {
		return nil
	}
	w.m.Keys = true
	return w.directory(keysPrefix, filepath.Join(opts.Data, "keys"))
}

func (w *writer) directory(prefix, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !fileName.MatchString(e.Name()) || !e.Type().IsRegular() {
			continue // a lock, or what is about to replace another
		}
		if err := w.small(prefix+e.Name(), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) small(name, path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return w.add(name, int64(len(body)), bytes.NewReader(body))
}
