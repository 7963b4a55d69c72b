package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/snapshot"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// ClusterOptions say which cluster a backup is restored into.
type ClusterOptions struct {
	// URL is that of its servers. They run 'rccs serve --restoring', and have no
	// streams. Needed.
	URL string
	// Keys are the installation's, which the servers have too. Needed.
	Keys *auth.Keystore
	// Options of the connections, such as those of TLS.
	Options []nats.Option
	// Copies is on how many servers each stream is to be. Needed.
	Copies int
	// Room, if set, returns how much each server may still store.
	Room func(ctx context.Context) ([]Room, error)
	// Progress is as in [RestoreOptions].
	Progress func(done, all int64)
}

// errNotEmpty is wrapped by the error about a cluster that has streams.
var errNotEmpty = errors.New("the cluster has streams already: start its servers on new directories, with 'rccs serve --restoring'")

// removeTimeout bounds the removal of what a restore has made, when it fails.
const removeTimeout = time.Minute

// RestoreCluster makes the streams of a backup, of one server or of a cluster, in
// a cluster. When it fails, it removes those that it has made.
func RestoreCluster(ctx context.Context, f *File, opts ClusterOptions) error {
	if err := restoreCluster(ctx, f, &opts); err != nil {
		return fmt.Errorf("backup: restore: %w", err)
	}
	return nil
}

func restoreCluster(ctx context.Context, f *File, opts *ClusterOptions) error {
	if opts.URL == "" || opts.Keys == nil || opts.Copies < 1 {
		return errors.New("ClusterOptions.URL, Keys and Copies are needed")
	}
	if opts.Progress == nil {
		opts.Progress = func(int64, int64) {}
	}
	if err := f.Check(func(int64, int64) {}); err != nil { // as in Restore
		return err
	}
	if err := f.checkShards(opts.Keys); err != nil {
		return err
	}
	dial := func(tenant string) (*nats.Conn, error) {
		return dialTenant(opts.URL, opts.Keys, tenant, slices.Clone(opts.Options)...)
	}
	if err := f.checkEmpty(ctx, dial); err != nil {
		return err
	}
	if opts.Room != nil {
		servers, err := opts.Room(ctx)
		if err == nil {
			err = f.checkRoom(opts.Copies, servers)
		}
		if err != nil {
			return err
		}
	}
	err := f.put(ctx, dial, opts.Copies, opts.Progress)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	return errors.Join(err, f.remove(ctx, dial))
}

// A cluster elects leaders while it is new: what fails for that is tried again.
const (
	electTimeout = 2 * time.Minute
	electPause   = 500 * time.Millisecond
)

// putStream makes one stream.
func (f *File) putStream(ctx context.Context, nc *nats.Conn, s *snapshot.Stream, part string, copies int, progress func(int)) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for until := time.Now().Add(electTimeout); ; {
		err := snapshot.Put(ctx, nc, s, copies, f.part(part), progress)
		if err == nil || copies == 1 || ctx.Err() != nil || time.Now().After(until) || !storeerr.Passes(err) {
			return err
		}
		if gone := js.DeleteStream(ctx, s.Name); gone != nil && !storeerr.Passes(gone) {
			return errors.Join(err, gone)
		}
		select {
		case <-time.After(electPause):
		case <-ctx.Done():
			return err
		}
	}
}

// tenants calls do for each of the backup's tenants.
func (f *File) tenants(dial func(tenant string) (*nats.Conn, error), do func(tenant string, js jetstream.JetStream) error) error {
	for _, tenant := range f.Manifest.tenants() {
		nc, err := dial(tenant)
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err == nil {
			err = do(tenant, js)
		}
		nc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// checkEmpty refuses a cluster in which the installation has an inbox.
func (f *File) checkEmpty(ctx context.Context, dial func(tenant string) (*nats.Conn, error)) error {
	return f.tenants(dial, func(tenant string, js jetstream.JetStream) error {
		_, err := shard.At(0, f.Manifest.Shards(tenant)).JetStream(js).Stream(ctx, layout.StreamInbox)
		switch {
		case err == nil:
			return errNotEmpty
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil
		}
		return fmt.Errorf("look whether the cluster is empty: %w", err)
	})
}

// remove deletes the streams of the backup, where they are.
func (f *File) remove(ctx context.Context, dial func(tenant string) (*nats.Conn, error)) error {
	return f.tenants(dial, func(tenant string, js jetstream.JetStream) error {
		for i := range f.Manifest.Streams {
			s := &f.Manifest.Streams[i]
			if s.Tenant != tenant {
				continue
			}
			if err := js.DeleteStream(ctx, s.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("remove stream %s, which is not whole: %w", s.Name, err)
			}
		}
		return nil
	})
}
