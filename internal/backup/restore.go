package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/private"
	"github.com/rccs-io/rccs/internal/shard"
)

// stopTimeout bounds the stop of the server.
const stopTimeout = 5 * time.Minute

// RestoreOptions say where to.
type RestoreOptions struct {
	// Dir is the new data directory: empty, or not there yet. Needed.
	Dir string
	// Keys is a directory of keys, for a backup without them.
	Keys string
	// Shards are numbers of shards to divide the users of tenants into, by name,
	// instead of those that the tenants had.
	Shards map[string]int
	// Server configures the server that writes the streams. What of it belongs
	// to the installation is set here: directory, operator and accounts.
	Server backbone.Options
	// Progress is told how many bytes of how many the server has taken; nil
	// ignores it.
	Progress func(done, all int64)
}

// Restore makes a data directory from a backup.
func Restore(ctx context.Context, f *File, opts RestoreOptions) error {
	if err := restore(ctx, f, opts); err != nil {
		return fmt.Errorf("backup: restore: %w", err)
	}
	return nil
}

func restore(ctx context.Context, f *File, opts RestoreOptions) (err error) {
	switch {
	case opts.Dir == "":
		return errors.New("RestoreOptions.Dir is needed")
	case !f.Manifest.Keys && opts.Keys == "":
		return errors.New("the backup was made without keys: name the directory of the installation's keys with --keys," +
			" because new ones would end every credential")
	case f.Manifest.Keys && opts.Keys != "":
		return errors.New("the backup has keys: leave --keys out")
	}
	if opts.Progress == nil {
		opts.Progress = func(int64, int64) {}
	}
	if err := f.Check(func(int64, int64) {}); err != nil { // the server believes what it is given
		return err
	}
	made, err := prepare(opts.Dir)
	if err != nil {
		return err
	}
	// All is made in a directory below, so that the one that was named has
	// all or nothing.
	work, err := os.MkdirTemp(opts.Dir, ".restore-*") // mode 0700
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(work))
		if err != nil && made {
			_ = os.Remove(opts.Dir)
		}
	}()
	if err := backbone.CheckRoomFor(work, f.room(len(opts.Shards) > 0)); err != nil {
		return err
	}
	if err := f.unpack(work, opts.Keys); err != nil {
		return err
	}
	largest := f.largest
	f, err = f.divide(work, opts.Shards)
	if err != nil {
		return err
	}
	if err := f.fill(ctx, work, largest, &opts); err != nil {
		return err
	}
	return moveInPlace(work, opts.Dir)
}

// Without returns the backup without the streams of some tenants. Both are closed
// together.
func (f *File) Without(tenants []string) (*File, error) {
	have := f.Manifest.tenants()
	for _, name := range tenants {
		switch {
		case name == auth.DefaultTenant:
			return nil, errors.New("the default tenant cannot be left out")
		case !slices.Contains(have, name):
			return nil, noTenant(name)
		}
	}
	m := *f.Manifest
	m.Streams = slices.DeleteFunc(slices.Clone(m.Streams), func(s Stream) bool { return slices.Contains(tenants, s.Tenant) })
	return &File{Manifest: &m, path: f.path, file: f.file, parts: f.parts}, nil
}

func noTenant(name string) error {
	return fmt.Errorf("the backup has no tenant %s: 'rccs backup verify' lists those that it has", name)
}

// failed says whose stream an error is about. What a tenant's own parts have made of
// its streams keeps no other from being restored.
func (s *Stream) failed(err error) error {
	if s.Tenant == "" {
		return err
	}
	return fmt.Errorf("tenant %s: %w; to restore all others, repeat with --without-tenant %s", s.Tenant, err, s.Tenant)
}

// prepare makes the directory, or refuses one that holds something.
func prepare(dir string) (made bool, err error) {
	entries, err := private.Entries(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, os.MkdirAll(dir, 0o700)
	case err != nil:
		return false, err
	case len(entries) > 0:
		return false, fmt.Errorf("%s is not empty (it has %s): name a new directory, or move what it holds away", dir, entries[0].Name())
	}
	return false, private.Close(dir)
}

// room is how many bytes are written to the disk at most: all messages, the archive
// that the server takes in at the time, and the archives of divided streams.
func (f *File) room(divided bool) (bytes uint64) {
	add := func(n uint64) { bytes = addUp(bytes, n) }
	var largest uint64
	for i := range f.Manifest.Streams {
		s := &f.Manifest.Streams[i]
		archive := uint64(f.part(s.Part).Size()) //nolint:gosec // never negative
		add(s.Bytes)
		largest = max(largest, archive)
		if divided {
			add(archive)
		}
	}
	add(largest)
	return bytes
}

// addUp adds sizes. A manifest may say any: what is too large to be counted is the
// largest there is.
func addUp(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

// unpack writes the files.
func (f *File) unpack(work, keys string) error {
	for _, dir := range []string{"keys", "accounts"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o700); err != nil {
			return err
		}
	}
	if keys != "" {
		if err := copyKeys(keys, filepath.Join(work, "keys")); err != nil {
			return err
		}
	}
	for _, p := range f.Manifest.Parts {
		if strings.HasPrefix(p.Name, streamsPrefix) {
			continue
		}
		if err := writeFile(filepath.Join(work, filepath.FromSlash(p.Name)), f.part(p.Name)); err != nil {
			return err
		}
	}
	return nil
}

func copyKeys(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !fileName.MatchString(e.Name()) {
			continue
		}
		in, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(writeFile(filepath.Join(to, e.Name()), in), in.Close()); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, content io.Reader) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Sync(), file.Close())
}

// fill runs a server on the directory and gives it the streams.
// largest is how many bytes its largest message has.
func (f *File) fill(ctx context.Context, work string, largest int, opts *RestoreOptions) (err error) {
	keys, err := auth.OpenKeystore(work)
	if err != nil {
		return err
	}
	if keys.Created() {
		return errors.New("there are no keys: name the directory that has the installation's with --keys")
	}
	o := opts.Server
	// A stream may hold messages that are larger than a publisher may send: of another
	// configuration, or with headers that JetStream has added.
	o.Dir, o.Listen, o.MaxPayload = work, "", largest
	o.Operator, o.SystemAccount = keys.Operator(), keys.System().PublicKey
	if o.Accounts, o.Derived, err = keys.Accounts(); err != nil {
		return err
	}
	if err := f.checkShards(keys); err != nil {
		return err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	server, err := backbone.New(o)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, server.Stop(ctx))
	}()
	dial := func(tenant string) (*nats.Conn, error) {
		nc, err := dialTenant("", keys, tenant, server.InProcess())
		if err != nil {
			return nil, err
		}
		// It may have stored more than a limit of later allows.
		of, err := keys.Tenant(cmp.Or(tenant, auth.DefaultTenant))
		if err == nil {
			_, err = server.Lift(of.Account().PublicKey) // for as long as this server runs
		}
		return nc, err
	}
	return f.put(ctx, dial, 1, opts.Progress)
}

// checkShards refuses keys of tenants that have other numbers of shards.
func (f *File) checkShards(keys *auth.Keystore) error {
	for _, name := range f.Manifest.tenants() {
		tenant, err := keys.Tenant(cmp.Or(name, auth.DefaultTenant))
		if err != nil {
			return (&Stream{Tenant: name}).failed(err)
		}
		if have, want := tenant.Shards(), f.Manifest.Shards(name); have != want {
			return fmt.Errorf("the tenant %s has %d shards in the backup, and %d by the keys: take the keys that it had when the backup was made",
				tenant.Account().Name, want, have)
		}
	}
	return nil
}

// dialTenant connects in the account of a tenant; without a name it is the
// default one.
func dialTenant(url string, keys *auth.Keystore, tenant string, opts ...nats.Option) (*nats.Conn, error) {
	keys, err := keys.Tenant(cmp.Or(tenant, auth.DefaultTenant))
	if err != nil {
		return nil, err
	}
	cred, err := keys.IssuePart("restore")
	if err != nil {
		return nil, err
	}
	return nats.Connect(url, append(opts, cred.Option(), nats.Name("rccs restore"),
		nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(30*time.Second))...)
}

// put makes the streams, in the order in which they were taken: what is due
// begins to move into the inbox only when that is there. The first shard of the
// default tenant is fenced last: with that fence the restore is complete.
func (f *File) put(ctx context.Context, dial func(tenant string) (*nats.Conn, error), copies int, progress func(done, all int64)) error {
	conns := map[string]*nats.Conn{}
	defer func() {
		for _, nc := range conns {
			nc.Close()
		}
	}()
	var done, all int64
	for i := range f.Manifest.Streams {
		all += f.part(f.Manifest.Streams[i].Part).Size()
	}
	for i := range f.Manifest.Streams {
		s := &f.Manifest.Streams[i]
		nc := conns[s.Tenant]
		if nc == nil {
			var err error
			if nc, err = dial(s.Tenant); err != nil {
				return s.failed(err)
			}
			conns[s.Tenant] = nc
		}
		stream := s.Stream
		if _, name := shard.Named(s.Name, f.Manifest.Shards(s.Tenant)); name == layout.StreamInbox {
			var err error
			if stream.Config, err = unfenced(s.Config); err != nil {
				return s.failed(fmt.Errorf("stream %s: %w", s.Name, err))
			}
		}
		err := f.putStream(ctx, nc, &stream, s.Part, copies, func(n int) {
			done += int64(n)
			progress(min(done, all), all)
		})
		if err != nil {
			return s.failed(err)
		}
	}
	for _, tenant := range f.Manifest.tenants() {
		for _, s := range slices.Backward(shard.All(f.Manifest.Shards(tenant))) {
			if err := fence(ctx, conns[tenant], s, f.Manifest.Begun); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveInPlace moves what was made into its place, the keys last.
func moveInPlace(work, dir string) error {
	for _, name := range []string{"jetstream", "accounts", "FORMAT", configName, "keys"} {
		err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name))
		if err != nil && (name != configName || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return private.Sync(dir)
}
