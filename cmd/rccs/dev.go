package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

// The device that 'rccs dev' connects, and its user, to whom pages belong too.
const (
	devUser   = "alice"
	devDevice = devUser + "/phone"
)

type devFlags struct {
	host string
	keep string
}

func newDevCommand(env *environment) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Try RCCS: a throwaway installation with a device in it",
		Long: `Run all of RCCS on free ports, with its data in a new directory that is removed
at the end, connect the device ` + devDevice + ` to it, and print what it receives.
Three things to try, the addresses, and the QR code of a demo page are printed at
the start. Ctrl-C ends it.

The demo page is a device in a browser. A phone in the same network opens it by
its QR code, so the page and the device address listen at this machine's address
in that network, if it has a private one; --host 127.0.0.1 keeps them to this
machine. Whoever has the page's address can be a device of ` + devUser + ` until the end.
NATS, the HTTP API and the console listen on 127.0.0.1 only.`,
		Example: `  rccs dev
  rccs dev --host 127.0.0.1      # for this machine only
  rccs dev --keep ./data         # keep keys and messages there`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.dev(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "", "`address` of this machine to listen at for devices and the demo page (default: its private one, or 127.0.0.1)")
	flags.StringVar(&f.keep, "keep", "", "`directory` for keys and messages, which is kept")
	return cmd
}

// dev runs the installation until ctx ends.
func (env *environment) dev(ctx context.Context, f *devFlags) (err error) {
	host := f.host
	if host == "" {
		host = networkHost(ctx)
	}
	page, err := openDevPage(host)
	if err != nil {
		return err
	}
	defer page.close()
	data := f.keep
	if data == "" {
		if data, err = os.MkdirTemp("", "rccs-dev-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(data) }()
	}
	const free = "127.0.0.1:0"
	n, err := node.New(node.Options{
		Data: data, Listen: net.JoinHostPort(host, "0"), NATSListen: free, AdminListen: free, Config: defaults.DefaultConfig(),
		Transport: node.Transport{Origins: page.origins(shownHost(ctx, host))}, Version: version, Logger: env.logger(slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	page.node = n
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	var pageErr, deviceErr error
	err = n.Run(ctx, func() {
		parts.Go(func() {
			defer cancel()
			pageErr = page.serve()
		})
		parts.Go(func() {
			defer cancel()
			deviceErr = env.devPhone(ctx, &devRun{node: n, page: page, data: data, host: shownHost(ctx, host)})
		})
	})
	cancel()
	page.close()
	parts.Wait()
	forgetAddresses(data)
	return errors.Join(err, pageErr, deviceErr)
}

// shownHost is a host under which others reach what listens at one: "0.0.0.0" is
// none.
func shownHost(ctx context.Context, host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return networkHost(ctx)
	}
	return host
}

// devRun is the installation and the page that `rccs dev` has started.
type devRun struct {
	node *node.Node
	page *devPage
	data string
	host string // for people and browsers
}

// addresses are those to print and to find by --data.
func (r *devRun) addresses() addresses {
	at := addressesOf(r.node, &transportFlags{})
	at.Devices = "ws://" + net.JoinHostPort(r.host, port(r.node.Addr()))
	return at
}

// devPhone is the device: it prints what comes until ctx ends.
func (env *environment) devPhone(ctx context.Context, r *devRun) error {
	a, err := subjects.ParseAddress(devDevice)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, r.addresses().Devices, &client.Options{
		Type: "mobile", Platform: "rccs dev", Version: version, Capabilities: map[string]any{"supportsNotifications": true},
		Credentials: func(context.Context) (string, client.Signer, error) {
			cred, err := r.node.Keys().IssueDevice(a, auth.DeviceOptions{Expires: auth.DefaultExpiry})
			return cred.JWT, cred.Sign, err
		},
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := r.addresses().keep(r.data); err != nil {
		return err
	}
	if err := env.devWelcome(r); err != nil {
		return err
	}
	c.Handle("", func(_ context.Context, m *client.Message) error { return env.printf("%s\n", line(m)) })
	if err := c.Serve(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// devWelcome prints what to try.
func (env *environment) devWelcome(r *devRun) error {
	at, page := r.addresses(), r.page.address(r.host)
	var qr bytes.Buffer
	qrterminal.GenerateHalfBlock(page, qrterminal.L, &qr)
	from := "scan it with a phone in this network, or open it here"
	if ip := net.ParseIP(r.host); ip != nil && ip.IsLoopback() {
		from = "open it here; a phone needs --host with an address of this machine"
	}
	rccs, data := os.Args[0], " --data "+r.data
	return env.printf(`%s
demo page  %s
           (%s)
console    %s/console/
devices    %s/v1/ws
nats       %s

%s is connected here. Try, in another terminal:

  # send it something: it is printed below
  %s send %s hello%s

  # send to a device that is not there: it is stored
  %s send alice/desktop 'read me later'%s

  # be that device: what was stored comes
  %s connect alice/desktop%s

What %s receives is printed below. Ctrl-C ends all of it.

`, qr.String(), page, from, at.Admin, at.Devices, at.NATS, devDevice,
		rccs, devDevice, data, rccs, data, rccs, data, devDevice)
}
