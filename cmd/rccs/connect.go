package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type connectFlags struct {
	url, data, creds, kind string
	count                  uint
	timeout                time.Duration
	json                   bool
}

func newConnectCommand(env *environment) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use:   "connect USER/DEVICE",
		Short: "Be a device in this terminal",
		Long: `Connect as a device: print each message as it arrives and acknowledge it, and
send what is typed. A typed line is the name of another device of the same user,
a space, and the payload; a payload that is not JSON is sent as a JSON string.

The connection comes back by itself when the server does. Ctrl-C ends it; the
end of standard input (Ctrl-D) ends only what is sent.`,
		Example: `  rccs connect alice/phone
  rccs connect alice/phone --count 1 --timeout 30s     # wait for one message
  rccs connect alice/phone --creds phone.creds --url wss://edge.example.com
  echo 'desktop {"open":"main.go"}' | rccs connect alice/phone --timeout 2s`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.device(cmd.Context(), &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "ws://127.0.0.1:8080/v1/ws", "`URL` of an edge")
	flags.StringVar(&f.data, "data", "./data", "`directory` of the installation's keys")
	flags.StringVar(&f.creds, "creds", "", "the device's credentials `file`, instead of the keys in the data directory")
	checkedVar(flags, &f.kind, "type", "user_message", "`type` of the messages that are sent", checkMessageType)
	flags.UintVar(&f.count, "count", 0, "end after so many `messages`")
	flags.DurationVar(&f.timeout, "timeout", 0, "end after this time, with status 1 if --count messages did not come")
	flags.BoolVar(&f.json, "json", false, "print each message as the JSON it came as")
	return cmd
}

// device connects and serves until the count, the time, or the end of both.
func (env *environment) device(ctx context.Context, f *connectFlags, name string) error {
	address, err := subjects.ParseAddress(name)
	if err != nil {
		return usageError{err}
	}
	if f.timeout < 0 {
		return usageError{fmt.Errorf("--timeout %s: want a duration such as 30s", f.timeout)}
	}
	credentials, err := env.deviceCredentials(ctx, f, address)
	if err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	c, err := client.Dial(ctx, f.url, &client.Options{
		Credentials: credentials, User: address.User, Device: address.Device, Platform: "rccs connect", Version: version,
		OnDisconnect: func(err error) { env.note("connection lost, trying again: %v", err) },
		OnError:      func(e *wire.Error) { env.note("refused: %v", e) },
	})
	var told *client.CloseError
	switch {
	case errors.Is(err, wire.AuthError):
		return fmt.Errorf("%s refused the credential: %w (is --data, or --creds, of the same installation?)", f.url, err)
	case errors.As(err, &told):
		return fmt.Errorf("%s refused the connection: %w", f.url, err)
	case err != nil:
		return fmt.Errorf("%w (is 'rccs serve' running there? another address: --url)", err)
	}
	defer func() { _ = c.Close() }()
	session := c.Session()
	env.note("connected as %s, %d waiting", address, session.Pending)
	go env.sendLines(ctx, c, f.kind)
	return env.print(ctx, c, f)
}

// note tells people; scripts read standard output.
func (env *environment) note(format string, args ...any) {
	_, _ = fmt.Fprintf(env.err, "rccs: "+format+"\n", args...)
}

func (env *environment) deviceCredentials(ctx context.Context, f *connectFlags, a subjects.Address) (client.Credentials, error) {
	if f.creds != "" {
		credentials := client.CredentialsFile(f.creds)
		if _, _, err := credentials(ctx); err != nil { // tell before dialling
			return nil, fmt.Errorf("--creds: %w", err)
		}
		return credentials, nil
	}
	keys, err := env.installed(f.data)
	if err != nil {
		return nil, err
	}
	return func(context.Context) (string, client.Signer, error) {
		cred, err := keys.IssueDevice(a, auth.DeviceOptions{Expires: 24 * time.Hour})
		return cred.JWT, cred.Sign, err
	}, nil
}

// print prints and acknowledges messages until enough came or ctx ends.
func (env *environment) print(ctx context.Context, c *client.Client, f *connectFlags) error {
	for n := uint(0); f.count == 0 || n < f.count; n++ {
		m, err := c.Receive(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && f.count > 0:
			return fmt.Errorf("%d of %d messages came within %s", n, f.count, f.timeout)
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if f.json {
			err = env.printf("%s\n", m.Append(nil))
		} else {
			err = env.printf("%s\n", line(m))
		}
		if err != nil {
			return err
		}
		m.Ack() // after it was printed, so that none is lost by a full pipe
	}
	return nil
}

// line is a message for people: lane, sequence, type, sender, payload.
func line(m *client.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s #%-6d %s from %s", subjects.Lane(m.Priority), m.Seq, m.Type, m.FromDeviceID)
	if m.Redelivered {
		b.WriteString(" (again)")
	}
	if data, err := m.Data(); err == nil && m.Encoding != "" {
		fmt.Fprintf(&b, ": %q", data) // bytes that are not JSON, made safe for a terminal
	} else {
		fmt.Fprintf(&b, ": %s", m.Payload)
	}
	return b.String()
}

// sendLines sends what is typed. Reading standard input cannot be interrupted, so
// it may outlive the command by as long as the process does.
func (env *environment) sendLines(ctx context.Context, c *client.Client, kind string) {
	in := bufio.NewReader(env.in)
	for {
		text, err := in.ReadString('\n')
		if text = strings.TrimSpace(text); text != "" {
			env.sendTyped(ctx, c, kind, text)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				env.note("standard input: %v", err)
			}
			return
		}
	}
}

func (env *environment) sendTyped(ctx context.Context, c *client.Client, kind, text string) {
	device, payload, ok := strings.Cut(text, " ")
	if !ok {
		env.note("not sent: want DEVICE PAYLOAD, such as: desktop {\"open\":\"main.go\"}")
		return
	}
	if !json.Valid([]byte(payload)) {
		quoted, err := json.Marshal(payload)
		if err != nil {
			env.note("not sent: %v", err)
			return
		}
		payload = string(quoted)
	}
	e := wire.NewEnvelope("", kind, []byte(payload))
	e.ToDeviceID = device
	accepted, err := c.Send(ctx, e)
	if err != nil {
		env.note("not sent: %v", err)
		return
	}
	for _, r := range accepted.Recipients {
		env.note("stored for %s, seq %d", r.DeviceID, r.Seq)
	}
}
