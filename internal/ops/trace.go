package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
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

// scan reads the headers of what a stream holds since a time on the subjects
// of a filter; empty: all.
func (t *Tenant) scan(ctx context.Context, stream, filter string, since time.Time, progress func(done, all int), found func(*reader.Entry)) error {
	return t.follow(ctx, stream, filter, since, true, progress, found)
}

// read is scan with bodies, from the beginning.
func (t *Tenant) read(ctx context.Context, stream, filter string, found func(*reader.Entry)) error {
	return t.follow(ctx, stream, filter, time.Time{}, false, nil, found)
}

func (t *Tenant) follow(
	ctx context.Context, stream, filter string, since time.Time, headers bool, progress func(done, all int), found func(*reader.Entry),
) error {
	last, err := t.head(ctx, stream)
	if err != nil {
		return err
	}
	from := uint64(1)
	if !since.IsZero() {
		if from, err = t.at(ctx, stream, since); err != nil {
			return err
		}
	}
	if from > last {
		return nil
	}
	opts := reader.Options{Conn: t.nc, Stream: stream, Shard: t.shard, FromStart: true, After: from - 1, HeadersOnly: headers, Logger: t.log}
	if filter != "" {
		opts.Filter = []string{filter}
	}
	opts.Handle = func(e reader.Entry) {
		found(&e)
		if progress != nil && e.Seq%256 == 0 {
			progress(int(min(e.Seq, last)-from), int(last-from)) //nolint:gosec // it is for a bar of progress
		}
	}
	r, err := reader.New(opts)
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return fmt.Errorf("ops: search %s: %w", stream, err)
	}
	return r.Stop(ctx) // after it nothing is handed out any more
}

// search is a trace under way.
type search struct {
	t      *Tenant
	proof  *proof.Key
	opts   *TraceOptions
	out    *Trace
	copies map[uint64]*Copy // by sequence
	came   int              // how often recipients came or went
}

// presenceSteps bounds what is told of recipients that come and go all the
// time.
const presenceSteps = 50

func (s *search) matches(e *reader.Entry) bool {
	return (&envelope.Message{Seq: e.Seq, Header: e.Header}).ID() == s.opts.ID
}

// step notes one.
func (s *search) step(e *reader.Entry, step, stream string, a subjects.Address, detail string) *Step {
	s.out.Steps = append(s.out.Steps, Step{
		At: time.Unix(0, e.Time).UTC(), Step: step, User: string(a.User), Device: string(a.Device), Stream: s.t.shard.Stream(stream), Seq: e.Seq, Detail: detail,
	})
	return &s.out.Steps[len(s.out.Steps)-1]
}

// outcomePrefix begins the id of an outcome, before the sequence of the message
// that it is of.
const outcomePrefix = "outcome-"

func (s *search) onInbox(e *reader.Entry) {
	if seq, ok := strings.CutPrefix(envelope.Value(e.Header, subjects.HeaderID), outcomePrefix); ok && envelope.Type(e.Header) == wire.TypeAck {
		if n, err := strconv.ParseUint(seq, 10, 64); err == nil && s.copies[n] != nil {
			s.copies[n].outcomes = append(s.copies[n].outcomes, e.Seq)
		}
		return
	}
	k, _, ok := subjects.ParseInbox(e.Subject)
	if !ok || !s.matches(e) {
		return
	}
	a, err := k.Address()
	if err != nil || !s.opts.Scope.Contains(a) {
		return
	}
	c := &Copy{User: string(a.User), Device: string(a.Device), key: k}
	c.Message = *newMessage(s.proof, &direct.Stored{Subject: e.Subject, Seq: e.Seq, Time: e.Time, Header: e.Header})
	c.Bytes, _ = strconv.Atoi(e.Header.Get("Nats-Msg-Size"))
	s.copies[e.Seq] = c
	s.out.Copies = append(s.out.Copies, c)
	detail := fmt.Sprintf("lane %s, %s from %s", c.Lane, c.Type, c.From)
	if c.Replay {
		detail += ", a replay"
	}
	s.step(e, StepStored, layout.StreamInbox, a, detail)
}

func (s *search) onLater(e *reader.Entry) {
	k, l, ok := subjects.ParseLater(e.Subject)
	if !ok || inbox.Ended(s.proof, e) || !s.matches(e) {
		return
	}
	if a, err := k.Address(); err == nil && s.opts.Scope.Contains(a) {
		s.step(e, StepLater, subjects.StreamLater, a, "lane "+l.String()+", due "+envelope.Value(e.Header, "Nats-Schedule"))
	}
}

func (s *search) onRoute(e *reader.Entry) {
	user, _, ok := subjects.ParseRoute(e.Subject)
	detail := "for devices that the coordinator finds"
	if !ok {
		user, ok = layout.ParseWait(e.Subject)
		detail = "for the first device that comes online"
	}
	if !ok || !s.matches(e) || s.opts.Scope.User != "" && s.opts.Scope.User != user {
		return
	}
	s.step(e, StepRoute, layout.StreamRoute, subjects.Address{User: user}, detail)
}

func (s *search) onUp(e *reader.Entry) {
	k, typ, ok := subjects.ParseUp(e.Subject)
	if !ok || !s.matches(e) {
		return
	}
	if a, err := k.Address(); err == nil {
		s.step(e, StepServices, subjects.StreamUp, a, typ+" to services")
	}
}

func (s *search) onTopic(e *reader.Entry) {
	if topic, ok := subjects.ParseTopic(e.Subject); ok && s.matches(e) {
		s.step(e, StepTopic, subjects.StreamTopic, subjects.Address{}, topic)
	}
}

// finish finds out what became of the copies.
func (s *search) finish(ctx context.Context) error {
	users := make(map[subjects.UserID]time.Time) // since when events matter
	edges, err := s.t.edgeNames(ctx)
	if err != nil {
		return err
	}
	for _, c := range s.out.Copies {
		if err := s.readState(ctx, c); err != nil {
			return err
		}
		device, err := s.t.devices(ctx, []subjects.Address{{User: subjects.UserID(c.User), Device: subjects.DeviceID(c.Device)}}, edges)
		if err != nil {
			return err
		}
		if len(device) > 0 {
			c.Edge = device[0].Edge
		}
		user := subjects.UserID(c.User)
		if since, ok := users[user]; !ok || c.Stored.Before(since) {
			users[user] = c.Stored
		}
	}
	for user, since := range users {
		if err := s.t.scan(ctx, subjects.StreamEvent, subjects.Scope{User: user}.Events(), since, nil, s.onEvent); err != nil {
			return err
		}
	}
	return nil
}

// readState reads a copy's cursor and outcome.
func (s *search) readState(ctx context.Context, c *Copy) error {
	in := Inbox{key: c.key}
	if err := s.t.loadCursor(ctx, &in); err != nil {
		return err
	}
	cursor := in.cursor
	if in.CursorAt != nil {
		c.cursorAt = *in.CursorAt
	}
	switch {
	case unacknowledged(&cursor, c.lane, c.Seq) != c.Seq:
		c.State = StateAcknowledged
	case c.Seq <= cursor.Sent[c.lane]:
		c.State = StateSent
	default:
		c.State = StateWaiting
	}
	for _, seq := range c.outcomes {
		if told, err := s.outcome(ctx, c, seq); err != nil || told {
			return err
		}
	}
	return nil
}

// outcome notes what the sender of a copy was told; false if it was not RCCS that
// told it, or nothing is left of it.
func (s *search) outcome(ctx context.Context, c *Copy, seq uint64) (bool, error) {
	stored, _, err := s.t.direct.Get(ctx, layout.StreamInbox, &direct.Request{Seq: seq, Batch: 1})
	if err != nil || len(stored) == 0 || stored[0].Seq != seq {
		return false, err // gone meanwhile
	}
	if m, ok := envelope.Parse(s.proof, envelope.Stored(stored[0])); !ok || !m.Authentic {
		return false, nil // a service's
	}
	var told struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(stored[0].Data, &told); err != nil {
		return false, nil //nolint:nilerr // the stream's entry is no outcome after all
	}
	at := time.Unix(0, stored[0].Time).UTC()
	c.Outcome, c.OutcomeAt = told.Status, &at
	sender := subjects.Address{User: subjects.UserID(c.User), Device: c.From}
	step := s.step(&reader.Entry{Time: stored[0].Time, Seq: seq}, StepOutcome, layout.StreamInbox, sender,
		told.Status+" by "+c.Device+", told the sender")
	step.kind, step.of = told.Status, c.Device
	return true, nil
}

// onEvent notes outcomes that services were told, and recipients that came and
// went.
func (s *search) onEvent(e *reader.Entry) {
	k, kind, ok := subjects.ParseEvent(e.Subject)
	if !ok {
		return
	}
	a, err := k.Address()
	if err != nil {
		return
	}
	if seq, _, ok := inbox.ParseEventID(envelope.Value(e.Header, jetstream.MsgIDHeader)); ok {
		c := s.copies[seq]
		if c == nil {
			return
		}
		at := time.Unix(0, e.Time).UTC()
		c.Outcome, c.OutcomeAt = kind, &at
		s.step(e, StepOutcome, subjects.StreamEvent, a, kind+", told services").kind = kind
		return
	}
	if kind != subjects.EventOnline && kind != subjects.EventOffline || s.came == presenceSteps {
		return
	}
	for _, c := range s.out.Copies {
		if c.key == k && e.Time >= c.Stored.UnixNano() && (c.OutcomeAt == nil || e.Time <= c.OutcomeAt.UnixNano()) {
			s.came++
			s.step(e, StepPresence, subjects.StreamEvent, a, map[string]string{
				subjects.EventOnline: "came " + wire.Online, subjects.EventOffline: "went " + wire.Offline,
			}[kind]).kind = kind
			return
		}
	}
}
