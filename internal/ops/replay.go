package ops

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// ReplayOptions say what to deliver again, and to whom. Exactly one of Since,
// FromSeq, ID, Missed and Rejected is to be given.
type ReplayOptions struct {
	// From is the device whose inbox is read.
	From subjects.Address
	// To is the device that gets the copies; zero: From.
	To subjects.Address

	// Since: what was stored at this time or later, acknowledged or not.
	Since time.Time
	// FromSeq: what has this sequence or a higher one.
	FromSeq uint64
	// ID: the messages of this id, of which each sender may have one.
	ID string
	// Missed: what is not acknowledged.
	Missed bool
	// Rejected: what the device refused, or could not be sent.
	Rejected bool

	// DryRun stores nothing.
	DryRun bool
	// Each, if set, is called for each message that is copied, or with DryRun
	// would be, before it is.
	Each func(*Message)
	// Stored, if set, is told how many copies are stored so far.
	Stored func(n int)
}

func (o *ReplayOptions) validate() error {
	n := 0
	for _, given := range []bool{!o.Since.IsZero(), o.FromSeq > 0, o.ID != "", o.Missed, o.Rejected} {
		if given {
			n++
		}
	}
	if n != 1 {
		return errors.New("ops: one of Since, FromSeq, ID, Missed and Rejected is needed")
	}
	return nil
}

// Replayed is what came of a replay.
type Replayed struct {
	// Run names the replay: the copies have the Nats-Msg-Id replay/<run>/<seq>.
	Run    string `json:"run"`
	DryRun bool   `json:"dryRun,omitempty"`
	// Copied is how many messages were stored again, or with DryRun would be.
	Copied int `json:"copied"`
	// Skipped is how many were passed over because they are replays
	// themselves, or outcomes that RCCS told the device.
	Skipped int `json:"skipped"`
	// First and Last are the sequences of the copies.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last,omitempty"`
}

// ReplayError says how far a replay came. Copies behind Seq may be stored.
type ReplayError struct {
	Seq    uint64 // of the first message that is not known to be stored again
	Copied int    // that are
	Err    error
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("ops: replay: message %d is not known to be stored again, %d are: %v", e.Seq, e.Copied, e.Err)
}

func (e *ReplayError) Unwrap() error { return e.Err }

// Replay appends copies of stored messages to an inbox, each in the lane of
// the original and in the original order. Neither the cursor nor what is on
// its way is touched: the device gets the copies as new messages, marked as
// replayed. A copy has the headers of the original but for those by which a
// sender asks for something. What is stored after Replay began is not copied,
// so copies into the same inbox are not copied again.
func (t *Tenant) Replay(ctx context.Context, opts ReplayOptions) (Replayed, error) {
	if err := opts.validate(); err != nil {
		return Replayed{}, err
	}
	from, into, to := t.of(opts.From.User), t.of(opts.From.User), opts.From
	if opts.To != (subjects.Address{}) {
		into, to = t.of(opts.To.User), opts.To
		if _, err := into.check(ctx, to); err != nil {
			return Replayed{}, err
		}
	}
	msgs, err := from.selected(ctx, &opts)
	if err != nil {
		return Replayed{}, err
	}
	r := &replay{out: Replayed{Run: nuid.Next(), DryRun: opts.DryRun}, to: to.Key(), opts: &opts}
	if opts.DryRun {
		return r.out, r.dry(msgs)
	}
	pub, err := into.publisher() // of the shard of the one who gets them
	if err != nil {
		return Replayed{}, err
	}
	err = r.run(ctx, msgs, pub)
	return r.out, err
}

// selected are the messages that the options ask for.
func (t *Tenant) selected(ctx context.Context, opts *ReplayOptions) (iter.Seq2[*Message, error], error) {
	if opts.Rejected {
		return t.rejectedMessages(ctx, opts.From)
	}
	if opts.Missed {
		lanes, err := t.missed(ctx, opts.From)
		if err != nil {
			return nil, err
		}
		return merge(ctx, lanes), nil
	}
	head, err := t.head(ctx, layout.StreamInbox)
	if err != nil {
		return nil, err
	}
	if _, err := t.check(ctx, opts.From); err != nil {
		return nil, err
	}
	from := max(opts.FromSeq, 1)
	if !opts.Since.IsZero() {
		if from, err = t.at(ctx, layout.StreamInbox, opts.Since); err != nil {
			return nil, err
		}
	}
	lanes := t.lanes(opts.From.Key(), head)
	for _, l := range lanes {
		l.next = from
	}
	all := merge(ctx, lanes)
	if opts.ID == "" {
		return all, nil
	}
	return func(yield func(*Message, error) bool) {
		for m, err := range all {
			if err == nil && m.ID != opts.ID {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}, nil
}

// replay is one under way.
type replay struct {
	opts *ReplayOptions
	to   subjects.Key
	out  Replayed

	mu     sync.Mutex
	stored int
	failed *ReplayError // of the lowest sequence
}

// wanted reports whether a message is to be copied.
func (r *replay) wanted(m *Message) bool {
	if m.Replay || m.notice() {
		r.out.Skipped++
		return false
	}
	r.out.Copied++
	if r.opts.Each != nil {
		r.opts.Each(m)
	}
	return true
}

func (r *replay) dry(msgs iter.Seq2[*Message, error]) error {
	for m, err := range msgs {
		if err != nil {
			return err
		}
		r.wanted(m)
	}
	return nil
}

// run publishes the copies; the publisher bounds how many are under way and
// keeps their order. It ends at the first that is refused.
func (r *replay) run(ctx context.Context, msgs iter.Seq2[*Message, error], pub *inbox.Publisher) error {
	var flying sync.WaitGroup
	var failed error
	for m, err := range msgs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			failed = err
			break
		}
		if r.refused() != nil {
			break
		}
		if !r.wanted(m) {
			continue
		}
		flying.Add(1)
		pub.Publish(r.copy(m), func(receipt inbox.Receipt, err error) {
			defer flying.Done()
			r.landed(m.Seq, receipt, err)
		})
	}
	flying.Wait()
	r.out.Copied = r.stored
	if err := r.refused(); err != nil {
		err.Copied = r.stored
		return err
	}
	return failed
}

func (r *replay) refused() *ReplayError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// landed hears what became of a copy.
func (r *replay) landed(seq uint64, receipt inbox.Receipt, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.failed == nil || seq < r.failed.Seq {
			r.failed = &ReplayError{Seq: seq, Err: err}
		}
		return
	}
	r.stored++
	if r.out.First == 0 || receipt.Seq < r.out.First {
		r.out.First = receipt.Seq
	}
	r.out.Last = max(r.out.Last, receipt.Seq)
	if r.opts.Stored != nil {
		r.opts.Stored(r.stored)
	}
}

// copy is the message that is stored again.
func (r *replay) copy(m *Message) *nats.Msg {
	h := make(nats.Header, len(m.header)+4)
	for name, values := range m.header {
		if !left(name) {
			h[name] = values
		}
	}
	// What the device was shown by default has to stay the same.
	h[subjects.HeaderID] = []string{m.ID}
	h[subjects.HeaderType] = []string{m.Type}
	h[subjects.HeaderTimestamp] = []string{m.Timestamp}
	h[layout.HeaderReplay] = []string{"true"}
	h[jetstream.MsgIDHeader] = []string{"replay/" + r.out.Run + "/" + strconv.FormatUint(m.Seq, 10)}
	return &nats.Msg{Subject: subjects.Inbox(r.to, m.lane), Header: h, Data: m.data}
}

// left reports whether a header of the original stays behind: what NATS set or
// would act on, and what asks for something that was done already, or that
// would keep the copy from being delivered.
func left(name string) bool {
	switch name {
	case subjects.HeaderAck, subjects.HeaderTTL, subjects.HeaderCollapse, subjects.HeaderRedelivered:
		return true
	}
	return headers.OfNATS(name)
}
