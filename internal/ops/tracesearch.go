package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

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
