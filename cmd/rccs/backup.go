package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/backup"
)

type backupFlags struct {
	target
	out, config string
	noKeys      bool
	without     []string
}

func newBackupCommand(env *environment) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Put a running installation into one file",
		Long: `Put the streams and buckets of a running installation into one file, with its
keys, account JWTs and, with --config, the NATS server's configuration. Devices
are served meanwhile. Everything that was accepted before the backup began is in
the file; what is accepted while it runs may be.

The file holds the keys: who can read it can be any device, and read what is
stored. It is made for its owner only (mode 0600); encrypt it before it leaves
the machine. 'rccs restore' makes a data directory from it.`,
		Example: `  rccs backup --out backup.tar
  rccs backup --data /var/lib/rccs --out /var/backups  # named by the time
  rccs backup --no-keys --out messages.tar             # keys are kept elsewhere
  rccs backup verify backup.tar`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.out == "" {
				return usageError{errors.New("--out is missing: name the file to make, or a directory")}
			}
			return env.backup(cmd.Context(), &f)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "`file` to make; in a directory it gets a name from the time")
	flags.StringVar(&f.config, "config", "", "`file` in the format of nats.conf to keep with it")
	flags.BoolVar(&f.noKeys, "no-keys", false, "leave the keys out")
	flags.Var(names{&f.without}, "without-tenant", "`name` of a tenant whose messages to leave out; may be repeated")
	cmd.AddCommand(newBackupVerifyCommand(env))
	return cmd
}

func (env *environment) backup(ctx context.Context, f *backupFlags) error {
	opts := backup.SaveOptions{
		Out: f.out, Data: f.data, NoKeys: f.noKeys, Config: f.config, Version: version,
	}
	if f.creds != "" || f.context != "" {
		if !f.noKeys {
			return errors.New("the keys are not at hand: name the installation's directory with --data instead, or leave the keys out with --no-keys")
		}
		opts.Data = "" // the directory is another's, or not here
	}
	var err error
	if opts.Dial, err = env.dialer(&f.target); err != nil {
		return err
	}
	if opts.Tenants, err = env.otherTenants(f); err != nil {
		return err
	}
	begun := time.Now()
	var path string
	var m *backup.Manifest
	err = recordedBackup(ctx, opts.Dial, f.out, func() (err error) {
		var bar *progress
		bar, opts.Progress = env.bytes("backed up")
		defer bar.end()
		path, m, err = backup.Save(ctx, opts)
		return err
	})
	if err != nil {
		return explain(ctx, f.divided(err))
	}
	if f.json {
		return env.json(m)
	}
	return env.printf("%s: %s messages in %d streams, %s, %s, in %s\n",
		path, number(m.Messages()), len(m.Streams), size(uint64(m.Bytes())), withKeys(m), span(time.Since(begun))) //nolint:gosec // sizes of files are not negative
}

// otherTenants are those beside the default one, where the keys are at hand.
func (env *environment) otherTenants(f *backupFlags) (map[string]func(...nats.Option) (*nats.Conn, error), error) {
	if f.creds != "" || f.context != "" {
		if len(f.without) > 0 {
			return nil, usageError{errors.New("--without-tenant is for a backup of all tenants: with a credential, only its own is backed up")}
		}
		return nil, nil
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return nil, err
	}
	names, err := keys.TenantNames()
	if err != nil {
		return nil, err
	}
	for _, name := range f.without {
		switch {
		case name == auth.DefaultTenant:
			return nil, usageError{errors.New("the default tenant cannot be left out")}
		case !slices.Contains(names, name):
			return nil, usageError{fmt.Errorf("there is no tenant %s: 'rccs tenants ls' lists all tenants", printable(name))}
		}
	}
	others := map[string]func(...nats.Option) (*nats.Conn, error){}
	for _, name := range names {
		if name != auth.DefaultTenant && !slices.Contains(f.without, name) {
			other := *env
			other.tenant = name
			if others[name], err = other.dialer(&f.target); err != nil {
				return nil, err
			}
		}
	}
	return others, nil
}

// recordedBackup keeps a record that everything was read, or that it failed.
func recordedBackup(ctx context.Context, dial func(...nats.Option) (*nats.Conn, error), out string, save func() error) error {
	return onJetStream(func() (*nats.Conn, error) { return dial() }, func(_ *nats.Conn, js jetstream.JetStream) error {
		return audit.DoInto(ctx, js, act(audit.ActionBackup, "", out), save)
	})
}

func withKeys(m *backup.Manifest) string {
	if m.Keys {
		return "with the keys"
	}
	return "without keys"
}

func newBackupVerifyCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a backup and show what is in it",
		Long: `Read all of a backup, compare it with its checksums, count the messages in it, and
show what it holds. Nothing is restored; no server is needed.`,
		Example:           `  rccs backup verify backup.tar`,
		Args:              arguments(1, "FILE"),
		ValidArgsFunction: completeBackups,
		RunE: func(_ *cobra.Command, args []string) error {
			return env.verifyBackup(args[0], asJSON)
		},
	}
	cmd.Flags().BoolVarP(&asJSON, "json", "j", false, "print JSON")
	return cmd
}

// completeBackups offers the files that could be backups.
func completeBackups(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"tar"}, cobra.ShellCompDirectiveFilterFileExt
}

func (env *environment) verifyBackup(path string, asJSON bool) error {
	bar, at := env.bytes("read")
	defer bar.end()
	f, err := backup.Open(path, at)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	if err := f.Check(at); err != nil {
		return err
	}
	bar.end()
	m := f.Manifest
	if asJSON {
		return env.json(m)
	}
	t := newTable(column{title: "TENANT"}, column{title: "STREAM"}, column{title: "MESSAGES", right: true}, column{title: "BYTES", right: true},
		column{title: "FIRST", right: true, extra: 2}, column{title: "LAST", right: true, extra: 1})
	for i := range m.Streams {
		s := &m.Streams[i]
		t.row(cmp.Or(s.Tenant, auth.DefaultTenant), s.Name, number(s.Messages), size(s.Bytes),
			strconv.FormatUint(s.First, 10), strconv.FormatUint(s.Last, 10))
	}
	if err := env.table(t); err != nil {
		return err
	}
	return env.printf("whole: made %s by rccs %s, %s\n", m.Begun.Format(time.RFC3339), printable(m.Version), withKeys(m))
}
