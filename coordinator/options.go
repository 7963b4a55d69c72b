package coordinator

import (
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/wire"
)

// Dial makes a NATS connection in the tenant's account, with the permissions of a
// component of RCCS. name tells people what the connection is for. No service
// should be able to listen on its reply subjects.
type Dial func(name string, opts ...nats.Option) (*nats.Conn, error)

// Options configure a [Coordinator].
type Options struct {
	// Dial is needed. Connections are closed by Stop.
	Dial Dial
	// Shard is the one that is looked after.
	Shard shard.Shard
	// Others are the coordinators of the tenant's other shards, which have started
	// with Quiet. This one answers requests for all of them.
	Others []*Coordinator
	// Quiet has requests answered by the coordinator of another shard.
	Quiet bool
	// Unserved, if set, returns how many other tenants the process does not serve.
	Unserved func() int
	// Enroller signs devices' tokens; nil: this coordinator enrols no devices.
	Enroller Enroller
	// Name identifies this coordinator for people; empty: its id.
	Name string
	// InboxLimit is how many unacknowledged messages an inbox may hold. Default
	// 10,000.
	InboxLimit int
	// MaxDeliveries is how many fetches of a device on plain NATS, and connections,
	// are given a message that none of them acknowledges. Then it is rejected. 0
	// means no limit.
	MaxDeliveries int
	// Rates bound what devices send over plain NATS. Default: no limits.
	Rates send.Rates
	// Shares bound what each device and user may store. Default: no limits.
	Shares share.Bounds
	// ShareMetrics counts what shares refuse; nil: not counted.
	ShareMetrics *share.Metrics
	// MaxDelay is how far ahead the time of a delayed message may lie. Default
	// 366 days.
	MaxDelay time.Duration
	// Revoked reports whether a service's credential is revoked that was issued
	// for userKey at a time; nil: none is.
	Revoked func(userKey string, issued time.Time) bool
	// RevocationsChanged signals that Revoked may answer differently now.
	RevocationsChanged <-chan struct{}
	// Tracer records single messages on their way; nil: none is recorded.
	Tracer trace.Tracer
	// Version of the program. Default "0.0.0".
	Version string
	// Logger; nil discards.
	Logger *slog.Logger
	// Metrics counts what the coordinator does; nil: not counted.
	Metrics *Metrics
}

func (o *Options) validate() error {
	if o.Dial == nil {
		return errors.New("coordinator: Dial is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.InboxLimit <= 0 {
		o.InboxLimit = 10_000
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = wire.MaxDelay
	}
	if o.Revoked == nil {
		o.Revoked = func(string, time.Time) bool { return false }
	}
	if o.Version == "" {
		o.Version = "0.0.0"
	}
	return nil
}
