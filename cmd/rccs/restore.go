package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/ops"
)

type restoreFlags struct {
	data, keys, config, cluster string

	without  []string
	shards   shardCount
	tls      tlsFlags
	storeKey storeKey
	json     bool
}

func newRestoreCommand(env *environment) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory, or the streams of a cluster, from a backup",
		Long: `Make a data directory from what 'rccs backup' made. The directory must be empty or
not exist yet, and no server may run on it. The file is checked before anything is
written, and what was restored is counted. When the restore fails, the directory
is as it was.

'rccs serve' then goes on from there: credentials are good, what is not
acknowledged is delivered, sequences continue.

With --cluster it makes the streams of a cluster instead, three copies of each,
from the backup of one server or of a cluster. Start the servers first, with the
installation's keys, new directories and 'rccs serve --restoring'; --data names
the keys. They serve as soon as everything is restored.`,
		Example: `  rccs restore backup.tar --data ./new
  rccs serve --data ./new
  rccs restore messages.tar --data ./new --keys ./keys  # made with --no-keys
  rccs restore backup.tar --data ./new --shards 4
  rccs restore backup.tar --cluster nats://a:4222   # the keys are in ./data`,
		Args:              arguments(1, "FILE"),
		ValidArgsFunction: completeBackups,
		RunE:              func(cmd *cobra.Command, args []string) error { return env.restore(cmd.Context(), &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` to make; an empty one may exist. With --cluster, the one with the keys")
	flags.StringVar(&f.keys, "keys", "", "`directory` of the installation's keys, for a backup without them")
	flags.StringVar(&f.config, "config", "", "`file` in the format of nats.conf, instead of the built-in one")
	flags.StringVar(&f.cluster, "cluster", "", "`URL` of a cluster whose servers wait for a restore ('rccs serve --restoring')")
	flags.Var(&f.shards, "shards", "in how many shards to divide the users of the tenant (--tenant), 1 to 64 (default: as it was)")
	flags.Var(names{&f.without}, "without-tenant", "`name` of a tenant to leave out, which is then empty; may be repeated")
	f.tls.add(flags)
	f.storeKey.add(flags)
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	return cmd
}

func (env *environment) restore(ctx context.Context, f *restoreFlags, path string) error {
	begun := time.Now()
	bar, at := env.bytes("checked")
	whole, err := backup.Open(path, at)
	bar.end()
	if err != nil {
		return err
	}
	defer func() { _ = whole.Close() }() // it was only read
	file, err := whole.Without(f.without)
	if err != nil {
		return err
	}
	where := f.data
	if f.cluster != "" {
		where = shown(f.cluster)
		err = env.restoreCluster(ctx, f, file)
	} else {
		err = env.restoreDirectory(ctx, f, file)
	}
	if err != nil {
		return err
	}
	m := file.Manifest
	return env.answer(f.json, map[string]any{"to": where, "messages": m.Messages(), "streams": len(m.Streams), "begun": m.Begun},
		"%s: %s messages in %d streams, as of %s, in %s\n",
		where, number(m.Messages()), len(m.Streams), m.Begun.Local().Format(time.RFC3339), span(time.Since(begun)))
}

// restoreDirectory makes a data directory.
func (env *environment) restoreDirectory(ctx context.Context, f *restoreFlags, file *backup.File) error {
	opts := backup.RestoreOptions{
		Dir: f.data, Keys: f.keys,
		Server: backbone.Options{ConfigPath: f.config, Logger: env.logger(slog.LevelWarn)},
	}
	if f.config == "" {
		opts.Server.Config = defaults.DefaultConfig()
	}
	if f.shards > 0 {
		opts.Shards = map[string]int{env.tenant: int(f.shards)}
	}
	var err error
	if opts.Server.StoreKey, _, err = f.storeKey.read(env); err != nil {
		return err
	}
	var bar *progress
	bar, opts.Progress = env.bytes("restored")
	defer bar.end()
	return backup.Restore(ctx, file, opts)
}

// restoreCluster makes the streams of a cluster.
func (env *environment) restoreCluster(ctx context.Context, f *restoreFlags, file *backup.File) error {
	if f.shards > 0 {
		return usageError{errors.New("--shards is for a data directory: restore into one with --shards, back that up, and restore the new backup with --cluster")}
	}
	if f.keys != "" || f.config != "" {
		return usageError{errors.New("--keys and --config are for a data directory: with --cluster, --data names the keys, and each server has its own configuration")}
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return err
	}
	opts := backup.ClusterOptions{URL: f.cluster, Keys: keys, Copies: node.ClusterCopies}
	if opts.Options, err = f.tls.reach(); err != nil {
		return err
	}
	opts.Room = func(ctx context.Context) ([]backup.Room, error) {
		cred, err := keys.IssueSystem("restore")
		if err != nil {
			return nil, err
		}
		nc, err := node.Connect(f.cluster, slices.Concat(dialOptions(), opts.Options, []nats.Option{cred.Option()})...)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		return roomOf(ctx, nc)
	}
	var bar *progress
	bar, opts.Progress = env.bytes("restored")
	defer bar.end()
	return backup.RestoreCluster(ctx, file, opts)
}

// roomOf returns how much each server may still store.
func roomOf(ctx context.Context, system *nats.Conn) ([]backup.Room, error) {
	servers, err := ops.AskServers(ctx, system)
	var all []backup.Room
	for i := range servers {
		if s := &servers[i]; s.StoreLimit > 0 {
			limit := uint64(s.StoreLimit)
			all = append(all, backup.Room{Server: s.Name, Bytes: limit - min(limit, s.StoreUsed)})
		}
	}
	return all, err
}
