package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/node"
)

type serveFlags struct {
	data, keysFrom, listen, natsListen, adminListen, apiListen, config string
	log                                                                logFlags

	inboxLimit limit
	limits     limitFlags
	transport  transportFlags
	trace      otlpFlags
	storeKey   storeKey
	enrolment  enrolFlags
	startWait  time.Duration
	stopWithin within
	restoring  bool
	shards     shardCount
}

func newServeCommand(env *environment) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run all of RCCS in one process",
		Long: `Run NATS with JetStream, the edge that devices connect to, and the admin
listener in one process. Keys and messages live in the data directory, which is
made with new keys when there is none. SIGTERM and Ctrl-C stop it cleanly:
devices are told to come back, acknowledgements are stored. SIGHUP reads the
nats.conf and the files of certificates again; no connection is closed by it.`,
		Example: `  rccs serve
  rccs serve --data /var/lib/rccs --listen 0.0.0.0:8080
  rccs serve --listen 0.0.0.0:443 --tls-cert edge.pem --tls-key edge.key
  rccs serve --config nats.conf        # limits of the NATS server, its TLS`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.serve(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` of keys and messages")
	flags.StringVar(&f.keysFrom, "keys-from", "", "`directory` of an installation's keys, copied where --data has none, such as a mounted secret")
	checkedVar(flags, &f.listen, "listen", "127.0.0.1:8080", "`address` for devices (WebSocket); empty for no edge in this process", checkAddress)
	checkedVar(flags, &f.natsListen, "nats-listen", "127.0.0.1:4222", "`address` for NATS clients; empty for none", checkAddress)
	checkedVar(flags, &f.adminListen, "admin-listen", "127.0.0.1:8081", "`address` for health, metrics, the HTTP API and the console; empty for none", checkAddress)
	checkedVar(flags, &f.apiListen, "api-listen", "", "`address` for the part of the HTTP API that services may use, always with a token; empty: at --admin-listen alone", checkAddress)
	flags.StringVar(&f.config, "config", "", "`file` in the format of nats.conf, instead of the built-in one")
	f.inboxLimit.add(flags)
	addStartWait(flags, &f.startWait)
	addStopWithin(flags, &f.stopWithin)
	flags.BoolVar(&f.restoring, "restoring", false, "in a cluster: make no streams, and wait for those of a backup ('rccs restore FILE --cluster URL')")
	flags.Var(&f.shards, "shards", "in how many shards users are divided, 1 to 64; chosen with the first start (default 1, or as it was chosen)")
	f.limits.add(flags)
	f.transport.add(flags)
	f.trace.add(flags)
	f.storeKey.add(flags)
	f.storeKey.addOld(flags)
	f.enrolment.add(flags)
	f.log.add(flags)
	return cmd
}

// gcPercent lets the heap grow to three times what lives before it is
// collected, instead of twice: a tenth less CPU a message (docs/benchmarks.md).
// What an idle connection holds is no heap that grows.
const gcPercent = 200

func (env *environment) serve(ctx context.Context, f *serveFlags) error {
	if f.data == "" {
		return usageError{errors.New("--data is empty: name the directory of keys and messages")}
	}
	enrolment, err := f.enrolment.options()
	if err != nil {
		return err
	}
	opts := node.Options{
		Data: f.data, KeysFrom: f.keysFrom, Listen: f.listen, NATSListen: f.natsListen, AdminListen: f.adminListen, APIListen: f.apiListen,
		ConfigPath: f.config, Version: version, Logger: env.logging(ctx, &f.log), InboxLimit: int(f.inboxLimit),
		Transport: f.transport.options(), Tracing: f.trace.options(), Limits: f.limits.options(f.inboxLimit), Enrolment: enrolment,
	}
	ctx, opts.Reread = env.hangups(ctx)
	if f.config == "" {
		opts.Config = defaults.DefaultConfig()
	}
	opts.Shards = int(f.shards)
	opts.StartWait, opts.StopWithin, opts.Restoring = f.startWait, time.Duration(f.stopWithin), f.restoring
	if opts.StoreKey, opts.OldStoreKey, err = f.storeKey.read(env); err != nil {
		return err
	}
	if _, set := env.lookup("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	n, err := node.New(opts)
	if err != nil {
		return err
	}
	found := false
	err = n.Run(ctx, func() { found = env.welcome(n, f) })
	if found {
		forgetAddresses(f.data)
	}
	return explainStart(explainKey(err), f.data)
}

// explainStart says of an address that is taken when it is by an 'rccs serve'
// of the same data: stopping that one is then what helps.
func explainStart(err error, data string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	if served := backbone.CheckServed(data); errors.Is(served, backbone.ErrServed) {
		return served
	}
	return err
}

// welcome says where everything is and what to try next. It reports whether
// commands find the installation by --data from now on.
func (env *environment) welcome(n *node.Node, f *serveFlags) (found bool) {
	if n.Keys().Created() {
		_ = env.printf("made new keys in %s; keep them safe, they cannot be made again\n\n", n.Keys().Dir())
	}
	at := addressesOf(n, &f.transport)
	err := at.keep(f.data) // before a script reads where it can be reached
	if found = err == nil; !found {
		env.note("commands do not find this installation by --data, and need --server and --url: %v", err)
	}
	if at.Devices != "" {
		_ = env.printf("devices   %s/v1/ws\n", at.Devices)
	}
	if at.NATS != "" {
		_ = env.printf("nats      %s\n", at.NATS)
	}
	if at.Admin != "" {
		_ = env.printf("admin     %s\n", at.Admin)
	}
	connect, send := os.Args[0]+" connect alice/phone", os.Args[0]+" send alice/phone hello"
	if at.Devices != "" && !found {
		connect += " --url " + at.Devices
	}
	if at.NATS != "" && !found {
		send += " --server " + at.NATS
	}
	_ = env.printf("\nTry, in another terminal:\n  %s\nand in a third:\n  %s\n", f.shorter(connect), f.shorter(send))
	return found
}

// shorter is a command for this installation: without what is the default, and
// with the data directory where that is another.
func (f *serveFlags) shorter(command string) string {
	command = strings.TrimSuffix(command, " --url ws://127.0.0.1:8080")
	command = strings.TrimSuffix(command, " --server nats://127.0.0.1:4222")
	if f.data != "./data" {
		command += " --data " + f.data
	}
	return command
}
