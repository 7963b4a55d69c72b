package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// ErrNoMessage says that none of the id was stored in the time that was
// searched.
var ErrNoMessage = errors.New("no such message")

// States of a [Copy].
const (
	StateWaiting      = "waiting"      // not sent to its device, as far as the cursor tells
	StateSent         = "sent"         // sent, and not acknowledged
	StateAcknowledged = "acknowledged" // or ended: see the outcome
)

// Copy is a message in the inbox of one recipient.
type Copy struct {
	User   string `json:"user"`
	Device string `json:"device"`
	Message
	State string `json:"state"`
	// Outcome is delivered, expired or replaced, when the sender asked for it
	// and was told.
	Outcome   string     `json:"outcome,omitempty"`
	OutcomeAt *time.Time `json:"outcomeAt,omitempty"`
	// Edge is the one that holds the recipient now; empty: it is offline.
	Edge string `json:"edge,omitempty"`

	key      subjects.Key
	outcomes []uint64  // sequences in the inbox stream of what may be its outcome
	cursorAt time.Time // when the recipient's cursor moved last; zero: never
}

// Steps of a [Trace].
const (
	StepLater    = "later"   // stored until its time has come
	StepRoute    = "route"   // stored until a device is found for it
	StepStored   = "stored"  // in a recipient's inbox
	StepServices = "up"      // stored for services
	StepTopic    = "topic"   // stored in a topic
	StepOutcome  = "outcome" // its sender was told what became of it
	StepPresence = "device"  // a recipient came or went meanwhile
)

// Step is one in the life of a message.
type Step struct {
	At     time.Time `json:"at"`
	Step   string    `json:"step"`
	User   string    `json:"user,omitempty"`
	Device string    `json:"device,omitempty"`
	Stream string    `json:"stream"`
	Seq    uint64    `json:"seq"`
	Detail string    `json:"detail,omitempty"`

	kind string // of an outcome, or online or offline
	of   string // the device that an outcome is about
}

// Trace is the life of a message.
type Trace struct {
	ID     string  `json:"id"`
	Copies []*Copy `json:"copies"`
	Steps  []Step  `json:"steps"` // in the order of time
}

// TraceOptions say what to look for, and where.
type TraceOptions struct {
	// ID of the message. Each sender may have one of that id.
	ID string
	// Scope narrows the search to recipients, or senders to services.
	Scope subjects.Scope
	// Since is how far back to look; zero: to the beginning.
	Since time.Time
	// Progress, if set, is told how far in how many messages the search is.
	Progress func(done, all int)
}

// Trace finds out what became of a message. Ids are not indexed: it reads the
// headers of what was stored in the scope since the time. The error wraps
// [ErrNoMessage] when there is none.
func (t *Tenant) Trace(ctx context.Context, opts TraceOptions) (*Trace, error) {
	parts := t.parts
	if len(parts) == 0 || opts.Scope.User != "" {
		parts = []*Tenant{t.of(opts.Scope.User)}
	}
	found := make([]*Trace, len(parts))
	sum := sumProgress(len(parts), opts.Progress)
	err := forEach(ctx, len(parts), nil, func(ctx context.Context, i int) (err error) {
		own := opts
		own.Progress = sum(i)
		found[i], err = parts[i].trace(ctx, &own, i == 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	all := mergeTraces(opts.ID, found)
	if len(all.Steps) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrNoMessage, opts.ID)
	}
	return all, nil
}

// trace finds what one shard knows of a message, in no order; whole: and what the
// streams of all shards together do.
func (t *Tenant) trace(ctx context.Context, opts *TraceOptions, whole bool) (*Trace, error) {
	key, err := t.proof(ctx)
	if err != nil {
		return nil, err
	}
	s := &search{t: t, proof: key, opts: opts, out: &Trace{}, copies: make(map[uint64]*Copy)}
	user := subjects.Scope{User: opts.Scope.User} // outcomes are in the senders' inboxes
	for _, source := range []struct {
		stream, filter string
		all            bool // from the beginning: what waits is not old
		found          func(*reader.Entry)
	}{
		{layout.StreamInbox, user.Inboxes(), false, s.onInbox},
		{subjects.StreamLater, "", true, s.onLater},
		{layout.StreamRoute, "", true, s.onRoute},
		{subjects.StreamUp, opts.Scope.Ups(), false, s.onUp},
		{subjects.StreamTopic, "", false, s.onTopic},
	} {
		if !whole && !shard.Divided(source.stream) {
			continue
		}
		since := opts.Since
		if source.all {
			since = time.Time{}
		}
		if err := t.scan(ctx, source.stream, source.filter, since, opts.Progress, source.found); err != nil {
			return nil, err
		}
	}
	return s.out, s.finish(ctx)
}

// mergeTraces is the life of a message of which each shard knows a part.
func mergeTraces(id string, found []*Trace) *Trace {
	all := &Trace{ID: id, Copies: []*Copy{}}
	for _, one := range found {
		all.Copies, all.Steps = append(all.Copies, one.Copies...), append(all.Steps, one.Steps...)
	}
	slices.SortStableFunc(all.Copies, func(a, b *Copy) int { return a.Stored.Compare(b.Stored) })
	slices.SortStableFunc(all.Steps, func(a, b Step) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq)) })
	came := 0
	all.Steps = slices.DeleteFunc(all.Steps, func(s Step) bool {
		if s.Step == StepPresence {
			came++
		}
		return s.Step == StepPresence && came > presenceSteps
	})
	return all
}

// sumProgress returns the progress functions of n searches side by side, which tell
// how far all are together. It returns nil ones where nobody asks.
func sumProgress(n int, progress func(done, all int)) func(i int) func(done, all int) {
	var mu sync.Mutex
	done, all := make([]int, n), make([]int, n)
	return func(i int) func(int, int) {
		if progress == nil {
			return nil
		}
		return func(d, a int) {
			mu.Lock()
			defer mu.Unlock()
			done[i], all[i] = d, a
			d, a = 0, 0
			for i := range done {
				d, a = d+done[i], a+all[i]
			}
			progress(d, a)
		}
	}
}
