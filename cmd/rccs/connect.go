package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type connectFlags struct {
	url, data, creds, kind string
	ca, seal               string
	deviceType, since      string
	capabilities, topics   []string
	count                  uint
	timeout                time.Duration
	json, presence         bool
}

// typedForms are the lines that can be typed.
const typedForms = `  DEVICE PAYLOAD               a message to another device of the same user
  * PAYLOAD                    a message to whom its type goes (--type)
  #TOPIC PAYLOAD               a message to all who listen to the topic
  ?DEVICE METHOD [PARAMS]      a request: its response is printed
  =ID RESULT                   the response to a request that was printed
  /devices                     lists the user's devices
  /status online|away|busy     shows the user's other devices how this one is
  /key DEVICE                  shows the key that DEVICE is sealed to (--seal)
  /accept DEVICE KEY           takes a key in place of another, once compared
`

func newConnectCommand(env *environment) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use:   "connect USER/DEVICE",
		Short: "Be a device in this terminal",
		Long: `Connect as a device: print each message as it arrives and acknowledge it once it
is printed, and send what is typed. A line that is typed is one of

  help                         shows these lines
` + typedForms + `
A payload that is not JSON is sent as a JSON string. With --seal, messages to
a device are sealed to its key, so that no server can read them, and what is
sealed to this one is opened; beside the key's file, FILE.pins keeps the keys
of the others.

The connection comes back by itself when the server does. Ctrl-C ends it; the
end of standard input (Ctrl-D) ends only what is sent.`,
		Example: `  rccs connect alice/phone
  rccs connect alice/phone --count 1 --timeout 30s     # wait for one message
  rccs connect alice/desktop --device-type desktop --topic builds --since 1h
  rccs connect alice/phone --seal phone.xk             # makes the key at first
  rccs connect alice/phone --creds phone.creds --url wss://edge.example.com
  echo 'desktop {"open":"main.go"}' | rccs connect alice/phone --timeout 2s`,
		Args: arguments(1, "USER/DEVICE"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.device(cmd.Context(), &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.url, "url", "u", "ws://127.0.0.1:8080/v1/ws", "`URL` of an edge")
	flags.StringVarP(&f.data, "data", "d", "./data", "`directory` of the installation's keys")
	flags.StringVar(&f.creds, "creds", "", "the device's credentials `file`, instead of the keys in the data directory")
	flags.StringVar(&f.ca, "ca", "", caUsage)
	flags.StringVar(&f.seal, "seal", "", "`file` of the device's sealing key, made if there is none")
	checkedVar(flags, &f.kind, "type", "user_message", "`type` of the messages that are sent", checkMessageType)
	flags.StringVar(&f.deviceType, "device-type", "", "the device's `type`, such as mobile or desktop")
	flags.Var(names{&f.capabilities}, "capability", "a `name` of what the device can do, such as supportsNotifications; may be repeated")
	flags.Var(names{&f.topics}, "topic", "a `topic` to print the messages of, in full, since no character is a wildcard; may be repeated")
	checkedVar(flags, &f.since, "since", "", "`where` topics begin: a seq, a time, a duration such as 1h, or last (default now)", checkSince)
	flags.BoolVar(&f.presence, "presence", false, "print when another device of the user comes, goes or changes its status")
	flags.UintVarP(&f.count, "count", "n", 0, "end after `number` messages")
	flags.DurationVar(&f.timeout, "timeout", 0, "end after this time, with status 1 if --count messages did not come")
	flags.BoolVarP(&f.json, "json", "j", false, "print each message as the JSON it came as")
	return cmd
}

// device connects and serves until the count, the time, or the end of both.
func (env *environment) device(ctx context.Context, f *connectFlags, name string) error {
	address, err := subjects.ParseAddress(name)
	if err != nil {
		return usageError{err}
	}
	if err := checkDeviceType(f.deviceType); err != nil {
		return usageError{fmt.Errorf("--device-type: %w", err)}
	}
	for _, name := range f.capabilities {
		if err := subjects.CheckName("capability", name); err != nil {
			return usageError{fmt.Errorf("--capability: %w", err)}
		}
	}
	for _, topic := range f.topics {
		if !wire.ValidTopic(topic) {
			return usageError{fmt.Errorf("--topic %q: want names with dots between", topic)}
		}
	}
	if _, err := edgeTrust(f.ca); err != nil {
		return err
	}
	credentials, err := env.deviceCredentials(ctx, f, address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	t := &terminal{env: env, flags: f, self: address.Device}
	opts, err := t.options(credentials, address)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, f.url, opts)
	if err != nil {
		return f.explain(err, address)
	}
	defer func() { _ = c.Close() }()
	env.note("connected as %s, %d waiting", address, c.Session().Pending)
	arrivals := make(chan *client.Message)
	var feeds sync.WaitGroup
	defer feeds.Wait()
	defer cancel() // before the wait
	if err := t.subscribe(ctx, c, &feeds, arrivals); err != nil {
		return err
	}
	go t.sendLines(ctx, c)
	return t.print(ctx, c, arrivals)
}

// explain adds to the error of a first connection what its cause may be, and what
// to do.
func (f *connectFlags) explain(err error, a subjects.Address) error {
	told, closed := errors.AsType[*client.CloseError](err)
	hint := credsHint(f.creds, a.String())
	switch {
	case closed && hint != "":
		return fmt.Errorf("%s refused the credential: %w (%s)", shown(f.url), told, hint)
	case closed && errors.Is(err, wire.AuthError):
		return fmt.Errorf("%s refused the credential: %w (is --data, or --creds, of the same installation?)", shown(f.url), told)
	case closed:
		return fmt.Errorf("%s refused the connection: %w", shown(f.url), told)
	}
	if strings.Contains(err.Error(), " sent this device to ") { // what is at --url answers well
		return fmt.Errorf("%w (is the edge there running, and can it be reached from here? its --advertise names that address)", err)
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return fmt.Errorf("%w (what answers there has no TLS: is its URL ws:// rather than wss://?)", err)
	}
	if strings.Contains(err.Error(), "malformed HTTP") { // net/http has no type for it, and quotes what came
		return fmt.Errorf("connect to %s: what answers there is not HTTP: is it the address of NATS, or an edge with TLS (wss://)? 'rccs serve' prints that of devices", shown(f.url))
	}
	if strings.Contains(err.Error(), "its URL is wss://") { // all is said
		return err
	}
	return fmt.Errorf("%w (is 'rccs serve' running there? another address: --url)", err)
}

// options are those of the connection.
func (t *terminal) options(credentials client.Credentials, a subjects.Address) (*client.Options, error) {
	opts := &client.Options{
		Credentials: credentials, User: a.User, Device: a.Device, CAFile: t.flags.ca,
		Type: t.flags.deviceType, Platform: "rccs connect", Version: version,
		OnDisconnect: func(err error) { t.env.note("connection lost, trying again: %v", err) },
		OnError:      func(e *wire.Error) { t.env.note("refused: %v", e) },
		OnPresence:   t.showPresence,
		OnOutcome:    func(o client.Outcome) { t.env.note("%s", outcomeText(o)) },
		OnGap:        func(g wire.Gap) { t.env.note("%s", gapText(&g)) },
		OnUnreadable: func(_ []byte, why error) { t.env.note("refused a message that cannot be read: %v", why) },
	}
	if len(t.flags.capabilities) > 0 {
		opts.Capabilities = map[string]any{}
		for _, name := range t.flags.capabilities {
			opts.Capabilities[name] = true
		}
	}
	return opts, t.sealing(opts)
}

// gapText is a gap for people.
func gapText(g *wire.Gap) string {
	where := fmt.Sprintf("seq %d to %d (%s%s, %s)", g.From, g.To, g.Lane, g.Topic, orDash(g.Reason))
	switch {
	case g.Count == 1:
		return "gone before it was read: 1 message from " + where
	case g.Count > 0:
		return fmt.Sprintf("gone before they were read: %d messages from %s", g.Count, where)
	case g.AtLeast > 0:
		return fmt.Sprintf("gone before they were read: at least %d messages from %s", g.AtLeast, where)
	}
	return "messages may be gone that were never read, from " + where
}

// outcomeText is an outcome for people.
func outcomeText(o client.Outcome) string {
	text := fmt.Sprintf("%s: %s by %s", o.ID, o.Status, o.Device)
	if o.Reason != "" {
		text += ": " + printable(o.Reason)
	}
	return text
}

// note tells people; scripts read standard output.
func (env *environment) note(format string, args ...any) {
	_, _ = fmt.Fprint(env.err, env.hints(fmt.Sprintf("rccs: "+format+"\n", args...)))
}

func (env *environment) deviceCredentials(ctx context.Context, f *connectFlags, a subjects.Address) (client.Credentials, error) {
	if f.creds != "" {
		credentials := client.RenewedFile(f.url, f.creds, &client.EnrollOptions{CAFile: f.ca})
		if _, _, err := client.CredentialsFile(f.creds)(ctx); err != nil { // tell before dialling
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
