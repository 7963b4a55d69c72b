package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Inbox gives a device its messages. [inbox.Hub] implements it and reads the
// whole stream in this process.
type Inbox interface {
	Attach(ctx context.Context, k subjects.Key, to inbox.Receiver, opts inbox.MailboxOptions) (*inbox.Mailbox, error)
	// Epoch stays the same as long as no sequence is given out twice.
	Epoch() string
	// Forgetful reports whether the store may have forgotten the ids of messages.
	Forgetful() bool
	// Recipients returns the devices that got the message whose first copy is
	// seq.
	Recipients(ctx context.Context, first uint64) ([]inbox.Recipient, error)
	// Find returns the sequence of a copy with a Nats-Msg-Id, looking from a
	// sequence on.
	Find(ctx context.Context, to subjects.Address, msgID string, from uint64) (uint64, error)
	// Withdraw cancels delayed messages of a device that sent them, by subject, and
	// returns how many will not come any more.
	Withdraw(ctx context.Context, names []string) (uint64, error)
	// Release ends a device's attachment. It returns when the cursor is stored.
	Release(ctx context.Context, k subjects.Key) error
	// History reads stored messages. It changes no cursor.
	History(ctx context.Context, k subjects.Key, from uint64, limit, maxBytes int) ([]*envelope.Message, uint64, error)
	// Admit returns [inbox.ErrFull] if a device's inbox has no room for n
	// messages.
	Admit(ctx context.Context, k subjects.Key, n int) error
}

// Publisher stores messages. [inbox.Publisher] implements it.
type Publisher interface {
	Publish(msg *nats.Msg, done func(inbox.Receipt, error))
	// PublishBatch stores all of the messages or none.
	PublishBatch(msgs []*nats.Msg, done func(inbox.BatchReceipt, error))
}

// Options configure a [Server]. Zero values mean the documented default.
type Options struct {
	// Verifier checks credentials. Needed.
	Verifier *auth.Verifier
	// Tenant finds the tenant by the public key of its account. Needed.
	Tenant func(account string) (*Tenant, bool)
	// Elsewhere, if set, is asked about a device whose user this edge does not
	// serve: it returns the edges to connect to instead. If there are none, it has
	// this edge serve the user, or returns why that failed.
	Elsewhere func(ctx context.Context, account string, key subjects.Key) (urls []string, err error)
	// Logger; nil discards.
	Logger *slog.Logger
	// Metrics is where the edge's metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer

	// Tracer records single messages on their way; nil: none is recorded. Give
	// each tenant the same one.
	Tracer trace.Tracer

	// Origins are the web pages that may connect, besides those of the edge's own
	// host: https://app.example.com, https://*.example.com for all its
	// subdomains, vscode-webview://* for all of a scheme, null, file://, or
	// [AnyOrigin] for all. Programs other than browsers send no origin, and may
	// always connect.
	Origins []string
	// Ready returns why devices cannot be served, for /readyz. Nil: they always
	// can.
	Ready func() error

	// MaxMessageBytes is the largest frame a device may send. Default 1 MiB.
	// The NATS max_payload must be at least 64 KiB more.
	MaxMessageBytes int
	// MaxFrameBytes is the largest frame sent to a device; a device may ask for
	// less. Default: one and a half times MaxMessageBytes, which is room for any
	// message.
	MaxFrameBytes int
	// MaxRegisterBytes is the largest frame of a client that has shown no
	// credential yet. Default 64 KiB.
	MaxRegisterBytes int
	// Limits bound the load that one sender puts on others. Default: no limits.
	Limits Limits
	// RegisterWithin is how long a new connection may take to register.
	// Default 10 s.
	RegisterWithin time.Duration
	// Heartbeat is the ping interval for devices that ask for none. Default
	// 30 s: proxies cut connections that are silent for 60 s.
	Heartbeat time.Duration
	// Window is how many messages may be unacknowledged for devices that ask for
	// no window, MaxWindow the most they may ask for. Defaults 256, 4,096.
	Window, MaxWindow int
	// MaxTopics is how many topics a connection may be subscribed to. Default
	// 100.
	MaxTopics int
	// DrainRate is how many connections a second are closed when the edge drains
	// or stops. Default 1,000.
	DrainRate int
	// WriteTimeout is how long a write may be stuck before the connection is
	// closed. No stored message is lost by it. Default 30 s.
	WriteTimeout time.Duration
	// CloseTimeout is how long the end of a connection may take. Default 2 s.
	CloseTimeout time.Duration
}

func (o *Options) validate() error {
	if o.Verifier == nil || o.Tenant == nil {
		return errors.New("edge: Verifier and Tenant are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value *time.Duration
		zero  time.Duration
	}{
		{&o.RegisterWithin, 10 * time.Second},
		{&o.Heartbeat, 30 * time.Second},
		{&o.WriteTimeout, 30 * time.Second},
		{&o.CloseTimeout, 2 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.zero
		}
	}
	for _, n := range []struct {
		value *int
		zero  int
	}{{&o.MaxMessageBytes, 1 << 20}, {&o.MaxRegisterBytes, 64 << 10}, {&o.Window, 256}, {&o.MaxWindow, 4096}, {&o.MaxTopics, 100}, {&o.DrainRate, 1000}} {
		if *n.value <= 0 {
			*n.value = n.zero
		}
	}
	if o.MaxFrameBytes <= 0 {
		o.MaxFrameBytes = o.MaxMessageBytes + o.MaxMessageBytes/2
	}
	o.MaxFrameBytes = max(o.MaxFrameBytes, wire.MinFrame)
	if o.Window > o.MaxWindow {
		return fmt.Errorf("edge: Window %d is above MaxWindow %d", o.Window, o.MaxWindow)
	}
	if o.Heartbeat < minHeartbeat || o.Heartbeat > maxHeartbeat {
		return fmt.Errorf("edge: Heartbeat %s is not between %s and %s", o.Heartbeat, minHeartbeat, maxHeartbeat)
	}
	return nil
}

// The shortest and longest heartbeat that a device may ask for.
const (
	minHeartbeat = 5 * time.Second
	maxHeartbeat = 5 * time.Minute
)
