package roster

import (
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// ErrReplaced means that a newer connection of the device holds the session.
var ErrReplaced = errors.New("roster: a newer connection took the session over")

// ErrStopped means that the roster has stopped, or is about to.
var ErrStopped = errors.New("roster: stopped")

// Options configure a roster.
type Options struct {
	// Read is the connection on which the buckets are followed.
	Read *nats.Conn
	// Shard is the one whose devices and edges the roster has.
	Shard shard.Shard
	// Put stores one message and calls done once with its sequence or the store's
	// error, from any goroutine. It must keep the order. It may block while the store is behind:
	// one goroutine calls it, and nobody waits for that goroutine.
	Put func(msg *nats.Msg, done func(seq uint64, err error))
	// Edge is set in an edge: the roster keeps its lease and opens sessions.
	// Without it the roster only follows.
	Edge *EdgeInfo
	// Lease is how long an edge counts as alive after it was last heard of.
	// Default 10 s.
	Lease time.Duration
	// SessionTimeout is for how long a session may be resumed after its
	// connection was lost. Default 5 min.
	SessionTimeout time.Duration
	// Changed, if set, is called once for each change of what others see of a
	// device. The changes of one device come in order, one call at a time. It is
	// not called for a change that was overtaken before it was read, since the
	// bucket keeps only the last, nor for one that was stored before Start. It
	// must not block, and must not call Open, Register or Stop.
	Changed func(Change)
	// Lost, if set, is called when another connection has taken over a session
	// that was opened here. It is called from a goroutine of its own, perhaps
	// before Open has returned; see [Session.Current].
	Lost func(k subjects.Key, epoch uint64)
	// Died, if set, is called when an edge has died, so that Sweep has work. It
	// must not block.
	Died func()
	// Logger; nil discards.
	Logger *slog.Logger
}

func (o *Options) validate() error {
	if o.Read == nil || o.Put == nil {
		return errors.New("roster: Read and Put are needed")
	}
	if o.Edge != nil && o.Edge.Name == "" {
		return errors.New("roster: an edge needs a name that stays the same when it is started again")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Lease <= 0 {
		o.Lease = 10 * time.Second
	}
	if o.SessionTimeout <= 0 {
		o.SessionTimeout = 5 * time.Minute
	}
	return nil
}

// EdgeInfo describes this edge.
type EdgeInfo struct {
	// Name stays the same after a restart, and no other edge may have it. Needed.
	Name string
	// Process is a name that no other process has. A process that serves several
	// shards has a lease in each, and they are told for its own by this name.
	Process string
	// TakenUp: the shard is not one of the edge's own. The lease shows it.
	TakenUp bool
	// Address, if set, returns where devices connect, for people. It is called
	// for each lease: an edge may choose its port after the first.
	Address func() string
	// URL is where devices are told to connect; empty: they are not sent here.
	URL string
	// Version of the program, for people.
	Version string
	// Unready, if set, returns why the edge cannot serve; empty if it can. The
	// lease shows it.
	Unready func() string
	// Others, if set, returns which other tenants the process does not serve, and why;
	// empty: it serves all. The lease shows it.
	Others func() string
	// Draining, if set, reports whether the edge takes no more devices. The lease
	// shows it.
	Draining func() bool
}

// Change is a change of what others see of a device.
type Change struct {
	Key    subjects.Key
	ID     subjects.DeviceID
	Type   string
	Status string
	// Came: the device is connected now, and was not before.
	Came bool
	// Unseen: others see no difference, because the device came back before they
	// were shown that it was gone.
	Unseen   bool
	LastSeen time.Time
	Extra    json.RawMessage // what the device said besides its status
}
