package roster

import (
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/subjects"
)

// ErrConflict is what Put's done must get, wrapped or not, when a
// compare-and-set lost: the entry was written by somebody else meanwhile.
var ErrConflict = errors.New("roster: the entry has changed meanwhile")

// ErrReplaced says that a newer connection of the device stands.
var ErrReplaced = errors.New("roster: a newer connection took the session over")

// ErrStopped says that the roster has stopped, or is about to.
var ErrStopped = errors.New("roster: stopped")

// Options are what a roster needs.
type Options struct {
	// Read follows the buckets.
	Read *nats.Conn
	// Put stores one message and calls done once with its sequence, from any
	// goroutine. It must keep the order, and may block while the store is
	// behind: it is called by one goroutine, for which nobody waits.
	Put func(msg *nats.Msg, done func(seq uint64, err error))
	// Edge is set in an edge: the roster keeps its lease and opens sessions.
	// Without it the roster only follows.
	Edge *EdgeInfo
	// Lease is how long an edge is believed to live after it was heard of.
	// Default 10 s.
	Lease time.Duration
	// SessionTimeout is how long after its connection was lost a session may
	// be resumed. Default 5 min.
	SessionTimeout time.Duration
	// Changed, if set, is told of each change of what others see of a device:
	// once, those of one device in order, one call at a time; none that is
	// overtaken before it was read, for the bucket keeps the last, and none that
	// was stored before Start. It must not block and must not call Open,
	// Register or Stop.
	Changed func(Change)
	// Lost, if set, is told that a session that was opened here is no more:
	// another connection has the device. It is called from a goroutine of its
	// own, perhaps before Open has returned; see [Session.Current].
	Lost func(k subjects.Key, epoch uint64)
	// Died, if set, is told that an edge has died, so that Sweep has work. It
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

// EdgeInfo says which edge this is.
type EdgeInfo struct {
	// Name is the same after a restart, and no other edge's. Needed.
	Name string
	// Address, if set, is where devices connect, for people. It is asked for each
	// lease: an edge may choose its port after the first.
	Address func() string
	// Version of the program, for people.
	Version string
	// Unready, if set, says why the edge cannot serve, or is empty. Whoever looks
	// at the lease sees it.
	Unready func() string
}

// Change is a change of what others see of a device.
type Change struct {
	Key    subjects.Key
	ID     subjects.DeviceID
	Type   string
	Was    string // the status before
	Status string
	// Came: it is connected now, and was not.
	Came bool
	// Unseen: others see no difference, because the device came back before they
	// were shown that it had gone.
	Unseen   bool
	LastSeen time.Time
	Extra    json.RawMessage // what the device said beside its status
}
