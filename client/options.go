package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Credentials answers with the credential to register with: a JWT, and how to
// sign the edge's nonce with its key, nil for a bearer token. It is asked at
// every connect, so that it can answer with a renewed one.
type Credentials func(ctx context.Context) (jwt string, sign Signer, err error)

// Signer signs the bytes of a nonce with the key of the credential.
type Signer func(nonce []byte) ([]byte, error)

// Options say who the device is and how it likes to be served. Only a
// credential is needed: Token or Credentials.
type Options struct {
	// Token is a bearer JWT. When it expires the client ends: use Credentials
	// where it can be renewed.
	Token string
	// Credentials takes precedence over Token. See [CredentialsFile].
	Credentials Credentials

	// User and Device must agree with the credential where they are given.
	User   subjects.UserID
	Device subjects.DeviceID

	// Type, Platform and Version describe the device to the user's others.
	Type, Platform, Version string
	// Capabilities becomes a JSON object of booleans, numbers and lists.
	Capabilities map[string]any

	// AckMode is [wire.AckExplicit], the default: a message is delivered when
	// the program has acknowledged it. With [wire.AckAuto] it is delivered when
	// the edge has written it to the socket: a lost connection, or the end of
	// the process, then loses messages that their senders were told are
	// delivered.
	AckMode string
	// Window is how many messages may be unacknowledged; 0 is the edge's
	// default.
	Window int
	// MaxFrameBytes is the largest frame that the edge may send; 0 leaves it to
	// the edge, which can then send whatever may be sent. A message that does
	// not fit is told by OnGap, and as undeliverable to its sender.
	MaxFrameBytes int
	// OfflineDelay is how long after a lost connection the edge waits before it
	// tells the user's other devices that this one is offline, at most 5 min. If
	// the device is back by then, they hear nothing.
	OfflineDelay time.Duration
	// Batch lets the edge put several messages into a frame.
	Batch bool
	// Heartbeat is how often the edge pings, 5 s to 5 min; 0 is its default.
	Heartbeat time.Duration

	// NoReconnect ends the client with its first connection.
	NoReconnect bool
	// Offline lets Dial return at once, and the client connect when it can.
	Offline bool
	// Outbox is a file that keeps what was given to [Client.Enqueue] and is not
	// accepted yet, so that it survives the end of the process; "" keeps it in
	// memory. One client at a time can use a file.
	Outbox string
	// OutboxLimit is how many messages Enqueue keeps at most; 0 is 10,000.
	OutboxLimit int
	// HandshakeTimeout bounds connecting and registering; 0 is 10 s.
	HandshakeTimeout time.Duration
	// Header goes with the upgrade request.
	Header http.Header
	// Seal gives the device a key that others seal messages to; nil for none.
	Seal *Seal
	// TLS is for wss; nil is the system's defaults.
	TLS *tls.Config
	// CAFile is a file of certificates (PEM) that the edge's must lead to,
	// instead of the system's or those of TLS. It is read at every connect.
	CAFile string
	// Logger hears of connections and of what could not be used; nil is
	// silent. It never hears tokens or payloads.
	Logger *slog.Logger

	// Requests are what [Client.HandleRequest] would be called with, from the
	// first moment on.
	Requests map[string]RequestHandler

	// OnConnect is called after each registration.
	OnConnect func(Session)
	// OnDisconnect is called when a connection ends and will be tried again,
	// and when a try fails.
	OnDisconnect func(error)
	// OnPresence hears that another device of the user came online, went
	// offline or changed its status.
	OnPresence func(Presence)
	// OnGap hears of messages that the device will not get, and why: see the
	// Reasons of package wire. nil leaves it to Receive.
	OnGap func(wire.Gap)
	// OnUnreadable hears of what the edge sent and the client cannot read: text
	// is the frame, or the envelope in it. A durable message in it was refused,
	// so that it holds up no other, and its sender is told.
	OnUnreadable func(text []byte, why error)
	// OnDiscard hears of messages that Serve acknowledged or refused although no
	// handler dealt with them. See [ErrDiscard] and [Reject].
	OnDiscard func(m *Message, why error)
	// OnSent hears what became of what was given to [Client.Enqueue]: the edge
	// accepted it, or refused it for good.
	OnSent func(id string, a Accepted, err error)
	// OnOutcome hears what became of messages that were accepted, at each
	// recipient: see [Outcome].Status. The outcome is acknowledged when it returns.
	OnOutcome func(Outcome)
	// OnError hears errors that belong to no waiting Send, such as the refusal
	// of a message of [Client.SendNoWait].
	OnError func(*wire.Error)

	sealing *sealing // nil without Seal; made by withDefaults
}

// withDefaults is a copy with all zero values filled in, checked.
func (o *Options) withDefaults() (*Options, error) {
	full := Options{}
	if o != nil {
		full = *o
	}
	if full.AckMode == "" {
		full.AckMode = wire.AckExplicit
	}
	if full.HandshakeTimeout == 0 {
		full.HandshakeTimeout = 10 * time.Second
	}
	if full.OutboxLimit == 0 {
		full.OutboxLimit = 10_000
	}
	if full.Logger == nil {
		full.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case full.Token == "" && full.Credentials == nil:
		return nil, errors.New("client: no credential: set Options.Token or Options.Credentials")
	case full.AckMode != wire.AckExplicit && full.AckMode != wire.AckAuto:
		return nil, fmt.Errorf("client: Options.AckMode is %q: use %q or %q", full.AckMode, wire.AckExplicit, wire.AckAuto)
	case full.OutboxLimit < 0:
		return nil, errors.New("client: Options.OutboxLimit must not be negative")
	case full.Window < 0 || full.Heartbeat < 0 || full.HandshakeTimeout < 0 || full.OfflineDelay < 0 || full.MaxFrameBytes < 0:
		return nil, errors.New("client: Window, MaxFrameBytes, Heartbeat, OfflineDelay and HandshakeTimeout must not be negative")
	}
	var err error
	if full.sealing, err = newSealing(full.Seal); err != nil {
		return nil, err
	}
	return &full, nil
}

// register is the payload of the registration, signed.
func (o *Options) register(ctx context.Context, nonce string) (*wire.Register, error) {
	r := &wire.Register{
		DeviceID: o.Device, UserID: o.User, Type: o.Type, Platform: o.Platform, Version: o.Version,
		AuthToken: o.Token, AckMode: o.AckMode, Window: o.Window, Batch: o.Batch, Heartbeat: o.Heartbeat,
		MaxFrame: int64(o.MaxFrameBytes), OfflineDelay: o.OfflineDelay,
	}
	if err := signable(nonce); err != nil {
		return nil, err
	}
	if o.Credentials == nil {
		return r, o.describe(r, nil)
	}
	token, sign, err := o.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: credentials: %w", err)
	}
	r.AuthToken = token
	if sign != nil {
		sig, err := sign([]byte(nonce))
		if err != nil {
			return nil, fmt.Errorf("client: sign the nonce: %w", err)
		}
		r.Sig = encodeSig(sig)
	}
	return r, o.describe(r, sign)
}

// describe adds what the device can do, and its key to seal to.
func (o *Options) describe(r *wire.Register, sign Signer) error {
	capabilities := o.Capabilities
	if o.sealing != nil {
		published, err := o.sealing.publish(r.AuthToken, sign)
		if err != nil {
			return err
		}
		capabilities = maps.Clone(capabilities)
		if capabilities == nil {
			capabilities = make(map[string]any)
		}
		capabilities[sealCapability] = published
	}
	if capabilities == nil {
		return nil
	}
	object, err := json.Marshal(capabilities)
	if err != nil {
		return fmt.Errorf("client: Options.Capabilities: %w", err)
	}
	r.Capabilities = object
	return nil
}

// endpoint is the URL to dial: http becomes ws, and a bare host gets the
// protocol's path.
func endpoint(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", errors.New("client: url: not a URL: want ws://HOST:PORT or wss://HOST")
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", fmt.Errorf("client: url %q: want ws://HOST:PORT or wss://HOST", shown(text))
	}
	if u.Host == "" {
		return "", fmt.Errorf("client: url %q has no host", shown(text))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/ws"
	}
	return u.String(), nil
}

// shown is a URL as errors show it: without a user, a password or a query,
// where somebody may have put a token.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
