package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

func newCredsCommand(env *environment) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "creds",
		Short: "Make credentials for devices and services",
		Long: `Make credentials. They are NATS credentials, made from the keys in the data
directory, whether or not the server runs; nothing has to be told of them.`,
	})
	cmd.AddCommand(newCredsDeviceCommand(env), newCredsServiceCommand(env))
	return cmd
}

// duration is a flag like a Go duration, with days: 30d.
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }

// Type implements pflag.Value.
func (*duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		v = time.Duration(n * float64(24*time.Hour))
	}
	if err != nil {
		return errors.New("want a duration such as 90m, 12h or 30d")
	}
	if v < time.Second {
		return errors.New("want a duration of at least a second")
	}
	*d = duration(v)
	return nil
}

func newCredsDeviceCommand(env *environment) *cobra.Command {
	var data string
	var opts auth.DeviceOptions
	expires := duration(auth.DefaultExpiry)
	cmd := &cobra.Command{
		Use:   "device USER/DEVICE",
		Short: "Make a device's credential",
		Long: `Print a credential for one device of one user: a .creds file as NATS clients
read it, or with --bearer the bare JWT, which is enough by itself to connect.

With --bearer and - as the name, read USER/DEVICE lines from standard input and
print a line "USER/DEVICE JWT" for each.`,
		Example: `  rccs creds device alice/phone > phone.creds
  rccs creds device alice/phone --type mobile --bearer --expires 30d
  rccs creds device --bearer - < devices.txt > tokens.txt`,
		Args: arguments(1, "USER/DEVICE, or - with --bearer"),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.Expires = time.Duration(expires)
			if args[0] == "-" && !opts.Bearer {
				return usageError{errors.New("- reads many names and prints a token for each: add --bearer")}
			}
			var address subjects.Address
			if args[0] != "-" {
				var err error
				if address, err = subjects.ParseAddress(args[0]); err != nil {
					return usageError{err}
				}
			}
			keys, err := env.keys(data)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return env.tokens(keys, opts)
			}
			cred, err := keys.IssueDevice(address, opts)
			if err != nil {
				return err
			}
			if opts.Bearer {
				return env.printf("%s\n", cred.JWT)
			}
			return env.printCreds(cred)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&data, "data", "./data", "`directory` of the installation's keys")
	flags.StringVar(&opts.Type, "type", "", "device `type`, such as mobile or desktop; it wins over what the device says")
	flags.BoolVar(&opts.Bearer, "bearer", false, "print a token that needs no signature")
	flags.Var(&expires, "expires", "how long it lasts, such as 12h or 30d")
	return cmd
}

func newCredsServiceCommand(env *environment) *cobra.Command {
	var data string
	var expires duration
	cmd := &cobra.Command{
		Use:   "service NAME",
		Short: "Make a backend service's credential",
		Long: `Print a .creds file for a backend service: it may publish to inboxes, and do
what else services do, with any NATS client.`,
		Example: `  rccs creds service billing > billing.creds
  nats --creds billing.creds pub rccs.inbox.alice.phone.normal '{"hello":"world"}'`,
		Args: arguments(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := env.keys(data)
			if err != nil {
				return err
			}
			cred, err := keys.IssueService(args[0], time.Duration(expires))
			if errors.Is(err, subjects.ErrName) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			return env.printCreds(cred)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&data, "data", "./data", "`directory` of the installation's keys")
	flags.Var(&expires, "expires", "how long it lasts, such as 12h or 30d (default: for ever)")
	return cmd
}

// keys opens the installation's keys.
func (env *environment) keys(data string) (*auth.Keystore, error) {
	keys, err := auth.OpenKeystore(data)
	if err != nil {
		return nil, err
	}
	if keys.Created() {
		_, _ = fmt.Fprintf(env.err, "rccs: made the operator's keys in %s\n", keys.Dir())
	}
	return keys, nil
}

func (env *environment) printCreds(cred auth.Credential) error {
	file, err := cred.File()
	if err != nil {
		return err
	}
	_, err = env.out.Write(file)
	return err
}

// tokens prints a token for every line of standard input.
func (env *environment) tokens(keys *auth.Keystore, opts auth.DeviceOptions) error {
	in := bufio.NewReader(env.in)
	out := bufio.NewWriter(env.out)
	for line := 1; ; line++ {
		name, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && name == "" {
			return out.Flush()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("standard input: %w", err)
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "\n"), "\r")
		if name == "" {
			continue
		}
		address, err := subjects.ParseAddress(name)
		if err != nil {
			return errors.Join(out.Flush(), fmt.Errorf("standard input, line %d: %w", line, err))
		}
		cred, err := keys.IssueDevice(address, opts)
		if err != nil {
			return errors.Join(out.Flush(), fmt.Errorf("standard input, line %d: %w", line, err))
		}
		if _, err := fmt.Fprintf(out, "%s %s\n", name, cred.JWT); err != nil {
			return err
		}
	}
}
