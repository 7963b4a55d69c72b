package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/backup"
)

type restoreFlags struct {
	data, keys, config string

	storeKey storeKey
}

func newRestoreCommand(env *environment) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory from a backup",
		Long: `Make a data directory from what 'rccs backup' made. The directory must be empty, or
not there yet; no server may run on it. The file is checked before anything is
written, and what was restored is counted. When it does not succeed, the directory
is as it was.

'rccs serve' then goes on from there: credentials are good, what is not
acknowledged is delivered, sequences continue.`,
		Example: `  rccs restore backup.tar --data ./new
  rccs serve --data ./new
  rccs restore messages.tar --data ./new --keys /secure/keys     # one made with --no-keys`,
		Args:              arguments(1, "FILE"),
		ValidArgsFunction: completeBackups,
		RunE:              func(cmd *cobra.Command, args []string) error { return env.restore(cmd.Context(), &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "./data", "`directory` to make, or that is empty")
	flags.StringVar(&f.keys, "keys", "", "`directory` of the installation's keys, for a backup without them")
	flags.StringVar(&f.config, "config", "", "`file` in the format of nats.conf, instead of the built-in one")
	f.storeKey.add(flags)
	return cmd
}

func (env *environment) restore(ctx context.Context, f *restoreFlags, path string) error {
	opts := backup.RestoreOptions{
		Dir: f.data, Keys: f.keys,
		Server: backbone.Options{ConfigPath: f.config, Logger: env.logger(slog.LevelWarn)},
	}
	if f.config == "" {
		opts.Server.Config = defaults.DefaultConfig()
	}
	var err error
	if opts.Server.StoreKey, _, err = f.storeKey.read(env); err != nil {
		return err
	}
	begun := time.Now()
	bar, at := env.bytes("checked")
	file, err := backup.Open(path, at)
	bar.end()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	bar, opts.Progress = env.bytes("restored")
	err = backup.Restore(ctx, file, opts)
	bar.end()
	if err != nil {
		return err
	}
	m := file.Manifest
	return env.printf("%s: %s messages in %d streams, as of %s, in %s\n",
		f.data, number(m.Messages()), len(m.Streams), m.Begun.Local().Format(time.RFC3339), span(time.Since(begun)))
}
