package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

// serverFlags say how to reach a running installation.
type serverFlags struct {
	server, data, creds string
	tlsFlags
}

func (f *serverFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.server, "server", "s", "nats://127.0.0.1:4222", "`URL` of the NATS server")
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys")
	flags.StringVar(&f.creds, "creds", "", "credentials `file`, instead of the keys in the data directory")
	f.tlsFlags.add(flags)
}

// address is the server's URL as it may be shown.
func (f *serverFlags) address() string { return shown(f.server) }

// connect opens a NATS connection as a service. What the server refuses later
// on, such as a subject, is told to refused.
func (env *environment) connect(f *serverFlags, name string, refused func(error)) (*nats.Conn, error) {
	var cred auth.Credential
	if f.creds != "" {
		var err error
		if cred, err = credentialOf(f.creds); err != nil {
			return nil, err
		}
	} else {
		keys, err := env.installed(f.data)
		if err != nil {
			return nil, err
		}
		if cred, err = keys.IssueService(name, auth.ServiceOptions{Expires: time.Hour}); err != nil {
			return nil, err
		}
	}
	reach, err := f.reach()
	if err != nil {
		return nil, err
	}
	nc, err := node.Connect(f.server, append(reach, cred.Option(), nats.Name("rccs "+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				refused(err)
			}
		}))...)
	return nc, f.explain(err)
}

// installed opens the keys of an installation that exists. A command that talks
// to one must not make another, whose credentials would be refused.
func (env *environment) installed(data string) (*auth.Keystore, error) {
	keys := filepath.Join(data, "keys")
	if _, err := os.Stat(keys); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: name the data directory of 'rccs serve' with --data, or a credentials file with --creds", keys)
	}
	return env.keys(data)
}

// leaderAttempts is how often a message is published to a stream that nobody
// leads: nine seconds of nats.go's pauses, in which a cluster elects a leader.
const leaderAttempts = 36

type sendFlags struct {
	serverFlags
	kind, priority, id string
	json               bool
}

func newSendCommand(env *environment) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send USER/DEVICE PAYLOAD",
		Short: "Store a message in a device's inbox",
		Long: `Store a message in a device's inbox, as a backend service does, and print where
it was stored. The device gets it when it is connected; a device that never
connected will find it there. A payload that is not JSON is sent as a JSON
string.`,
		Example: `  rccs send alice/phone '{"hello":"world"}'
  rccs send alice/phone hello
  rccs send alice/phone 'wake up' --type alarm --priority critical`,
		Args: arguments(2, "USER/DEVICE and PAYLOAD"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.send(cmd.Context(), &f, args[0], args[1]) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	checkedVar(flags, &f.kind, "type", "notification", "`type` of the message", checkMessageType)
	checkedVar(flags, &f.priority, "priority", "normal", "low, normal, high or critical", checkLane)
	checkedVar(flags, &f.id, "id", "", "`id` of the message; a repeat within two minutes is stored once (default: a new one)", checkMessageID)
	flags.BoolVarP(&f.json, "json", "j", false, "print JSON")
	return cmd
}

func (env *environment) send(ctx context.Context, f *sendFlags, to, payload string) error {
	address, err := subjects.ParseAddress(to)
	if err != nil {
		return usageError{err}
	}
	lane, _ := subjects.ParseLane(f.priority) // the flag was checked
	if f.id == "" {
		f.id = nuid.Next()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ctx, refused := context.WithCancelCause(ctx) // or it would wait for an answer that cannot come
	defer refused(nil)
	nc, err := env.connect(&f.serverFlags, "send", refused)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ack, err := js.PublishMsg(ctx, f.message(address, lane, payload), jetstream.WithRetryAttempts(leaderAttempts))
	switch {
	case err != nil && errors.Is(context.Cause(ctx), nats.ErrPermissionViolation):
		return fmt.Errorf("not allowed: the credential is not a service's, make one with 'rccs creds service': %w", context.Cause(ctx))
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("not stored: %w: %d bytes", err, len(payload))
	case err != nil:
		return fmt.Errorf("not known to be stored: %w (try again with --id %s: it is stored once)", err, f.id)
	}
	answer := map[string]any{"user": address.User, "device": address.Device, "lane": lane.String(), "seq": ack.Sequence, "id": f.id, "duplicate": ack.Duplicate}
	if ack.Duplicate {
		return env.answer(f.json, answer, "stored before: %s, lane %s, seq %d, id %s\n", address, lane, ack.Sequence, f.id)
	}
	return env.answer(f.json, answer, "stored: %s, lane %s, seq %d, id %s\n", address, lane, ack.Sequence, f.id)
}

func (f *sendFlags) message(to subjects.Address, lane subjects.Lane, payload string) *nats.Msg {
	return &nats.Msg{
		Subject: subjects.Inbox(to.Key(), lane),
		Data:    payloadOf(payload),
		Header: nats.Header{
			"Nats-Msg-Id":       {"service.send/" + string(to.Key()) + "/" + f.id},
			subjects.HeaderID:   {f.id},
			subjects.HeaderType: {f.kind},
		},
	}
}
