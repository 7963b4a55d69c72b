package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

// devDevice is the device that 'rccs dev' connects.
const devDevice = "alice/phone"

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
What to try next, the console's address and a QR code of it are printed at the
start. Ctrl-C ends it.`,
		Example: `  rccs dev
  rccs dev --host 0.0.0.0        # for a phone in the same network
  rccs dev --keep ./data         # keep keys and messages there`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return env.dev(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "127.0.0.1", "`address` of this machine to listen at for devices")
	flags.StringVar(&f.keep, "keep", "", "`directory` for keys and messages, which is kept")
	return cmd
}

// dev runs the installation until ctx ends.
func (env *environment) dev(ctx context.Context, f *devFlags) (err error) {
	data := f.keep
	if data == "" {
		dir, err := os.MkdirTemp("", "rccs-dev-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		data = filepath.Join(dir, "data")
	}
	const free = "127.0.0.1:0"
	n, err := node.New(node.Options{
		Data: data, Listen: f.host + ":0", NATSListen: free, AdminListen: free, Config: defaults.DefaultConfig(),
		Version: version, Logger: env.logger(slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var device sync.WaitGroup
	var deviceErr error
	err = n.Run(ctx, func() {
		device.Go(func() {
			defer cancel()
			deviceErr = env.devPhone(ctx, n, data)
		})
	})
	cancel()
	device.Wait()
	return errors.Join(err, deviceErr)
}

// devPhone is the device: it prints what comes until ctx ends.
func (env *environment) devPhone(ctx context.Context, n *node.Node, data string) error {
	a, err := subjects.ParseAddress(devDevice)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, "ws://"+n.Addr().String(), &client.Options{
		Type: "mobile", Platform: "rccs dev", Version: version, Capabilities: map[string]any{"supportsNotifications": true},
		Credentials: func(context.Context) (string, client.Signer, error) {
			cred, err := n.Keys().IssueDevice(a, auth.DeviceOptions{Expires: auth.DefaultExpiry})
			return cred.JWT, cred.Sign, err
		},
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := env.devWelcome(n, data); err != nil {
		return err
	}
	c.Handle("", func(_ context.Context, m *client.Message) error { return env.printf("%s\n", line(m)) })
	if err := c.Serve(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// devWelcome prints what to try.
func (env *environment) devWelcome(n *node.Node, data string) error {
	program, edge := os.Args[0], "ws://"+n.Addr().String()
	console := "http://" + n.AdminAddr().String()
	var qr bytes.Buffer
	qrterminal.GenerateHalfBlock(console, qrterminal.L, &qr)
	flags := fmt.Sprintf("--data %s", data)
	return env.printf(`%s
console   %s
devices   %s/v1/ws
nats      %s

%s is connected here. Try, in another terminal:

  %s send %s hello --server %s %s
  %s connect alice/desktop --url %s %s
  %s status --server %s %s

What %s receives is printed below. Ctrl-C ends all of it.

`, qr.String(), console, edge, n.NATSURL(), devDevice,
		program, devDevice, n.NATSURL(), flags, program, edge, flags, program, n.NATSURL(), flags, devDevice)
}
