package node

import (
	"errors"
	"log/slog"
	"time"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/tracing"
)

// Options configure a [Node]. Zero values mean the documented default.
type Options struct {
	// Data is the directory of keys and streams. Needed.
	Data string
	// KeysFrom is a directory of an installation's keys, which are copied where
	// Data has none; empty: new ones are made there.
	KeysFrom string
	// Listen is where devices connect, HOST:PORT; port 0 is any; empty:
	// nowhere, there is no edge in this process.
	Listen string
	// Shards is how many shards the default tenant has, if it is made now. 0 is 1,
	// or as it was made.
	Shards int
	// NATSListen is where NATS clients connect; empty: nowhere.
	NATSListen string
	// AdminListen is where health and metrics are served; empty: nowhere.
	AdminListen string
	// APIListen is where the rows of the HTTP API for services are served, to
	// clients with a token; empty: nowhere but on AdminListen.
	APIListen string
	// Config is the text of nats.conf; ConfigPath names a file instead.
	Config     []byte
	ConfigPath string
	// Transport says how devices and operators reach this process.
	Transport Transport
	// Reread asks for the nats.conf and all files of certificates to be read
	// again. May be nil.
	Reread <-chan struct{}
	// StoreKey and OldStoreKey are as in [backbone.Options].
	StoreKey, OldStoreKey string
	// Version of the program, which NATS clients are shown.
	Version string
	// Limits bound what devices may cost.
	Limits Limits
	// InboxLimit is how many unacknowledged messages an inbox may hold.
	// Default 10,000.
	InboxLimit int
	// Tracing says where the way of single messages is recorded.
	Tracing tracing.Options
	// Enrolment says how devices are enrolled.
	Enrolment Enrolment
	// Logger; nil discards.
	Logger *slog.Logger
	// StartWait bounds how long a start waits for room on the disk, and for the
	// other servers of a cluster; 0: no bound.
	StartWait time.Duration
	// Restoring has a server of a cluster make no streams, and wait for those
	// that a restore brings.
	Restoring bool
	// StopWithin bounds a stop. Default [DefaultStopWithin].
	StopWithin time.Duration
}

// DefaultStopWithin is how long a stop may take: less than the 10 s after which
// `docker stop` kills.
const DefaultStopWithin = 8 * time.Second

// Enrolment says how devices that make their own key get a credential.
type Enrolment struct {
	// Life of a credential. Default 24 h.
	Life time.Duration
	// RenewFor is how long after a credential was made the next one can be
	// had with the same key. Default 30 days.
	RenewFor time.Duration
	// Tokens checks the identity tokens of a third party; nil: none is taken.
	Tokens enroll.TokenVerifier
}

func (o *Options) validate() error {
	if o.Data == "" {
		return errors.New("node: Data is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StopWithin <= 0 {
		o.StopWithin = DefaultStopWithin
	}
	return errors.Join(o.Tracing.Validate(), o.Transport.validate(o.AdminListen))
}
