package send_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// site is a tenant without an edge and a coordinator.
type site struct {
	t      *testing.T
	roster *roster.Roster
	js     jetstream.JetStream
	opts   send.Options
}

func newSite(t *testing.T, devices ...subjects.DeviceID) *site {
	t.Helper()
	env := natstest.Server(t)
	s := &site{t: t, js: natstest.Streams(t, env.Conn(t))}
	pub, err := inbox.NewPublisher(env.Dialer(), nil)
	testkit.Check(t, err)
	t.Cleanup(pub.Stop)
	hub, err := inbox.New(inbox.Options{Read: env.Conn(t), Fetch: env.Conn(t), Publish: pub, MaxUnacked: 1000})
	testkit.Check(t, err)
	testkit.Check(t, hub.Start(t.Context()))
	t.Cleanup(func() { _ = hub.Stop(context.WithoutCancel(t.Context())) })
	s.roster, err = roster.New(roster.Options{Read: env.Conn(t), Edge: &roster.EdgeInfo{Name: "test"}, Put: func(m *nats.Msg, done func(uint64, error)) {
		pub.Publish(m, func(r inbox.Receipt, err error) { done(r.Seq, err) })
	}})
	testkit.Check(t, err)
	testkit.Check(t, s.roster.Start(t.Context()))
	t.Cleanup(func() { _ = s.roster.Stop(context.WithoutCancel(t.Context())) })
	for _, d := range devices {
		s.roster.Register(subjects.Address{User: "alice", Device: d}.Key(), roster.Record{Type: "desktop"})
	}
	tasks, err := s.js.KeyValue(t.Context(), layout.BucketTasks)
	testkit.Check(t, err)
	s.opts = send.Options{
		Roster: s.roster, Inbox: hub, Publisher: pub, Core: env.Conn(t), JetStream: s.js, Tasks: send.Tasks{KV: tasks},
	}
	return s
}

func (s *site) intake() *send.Intake {
	s.t.Helper()
	in, err := send.New(s.opts)
	testkit.Check(s.t, err)
	return in
}

func phone() send.From { return send.Device(subjects.Address{User: "alice", Device: "my phone"}) }

// A message to one named device takes a shorter way. It must end as the routing
// table says.
func TestShortWayEndsAsTheRoutingTableSays(t *testing.T) {
	t.Parallel()
	s := newSite(t, "my phone", "desk", "d.e s*k>top")
	in := s.intake()
	n := 0
	for _, device := range []string{"desk", "d.e s*k>top", "my phone", "nobody", "Desk", "server"} {
		for _, typ := range []string{"note", "notification", "task_start", "file_sync", "device_handoff"} {
			for _, named := range []wire.Envelope{{ToDeviceID: subjects.DeviceID(device)}, {To: &wire.To{Device: subjects.DeviceID(device)}}, {To: &wire.To{Device: subjects.DeviceID(device), Mode: wire.ModeAny}}} {
				n++
				e := named
				e.ID, e.Type, e.Payload, e.Priority = fmt.Sprint(n), typ, []byte(`{"taskId":"t"}`), wire.Normal
				to, has := e.Target()
				want, wantErr := roster.Route(roster.Message{Type: typ, To: to, HasTo: has, From: "my phone"}, s.roster.User(phone().Key))
				told, werr := in.Send(t.Context(), phone(), &e)
				switch {
				case wantErr != nil:
					if werr == nil || werr.Code != wantErr.Code || werr.OriginalID != e.ID {
						t.Errorf("%s to %q: told %v %v, the table says %v", typ, device, told, werr, wantErr)
					}
					continue
				case werr != nil:
					t.Errorf("%s to %q: told %v", typ, device, werr)
					continue
				}
				var got []subjects.DeviceID
				for _, r := range told.Recipients {
					got = append(got, r.DeviceID)
				}
				if !slices.Equal(got, want.Targets) {
					t.Errorf("%s to %q went to %v, the table says %v", typ, device, got, want.Targets)
				}
			}
		}
	}
}

// failing answers every publish with an error of the store.
type failing struct {
	send.Publisher
	err error
}

func (f failing) Publish(_ *nats.Msg, done func(inbox.Receipt, error)) { done(inbox.Receipt{}, f.err) }

func TestSenderIsToldWhatTheStoreMeant(t *testing.T) {
	t.Parallel()
	s := newSite(t, "my phone", "desk", "other")
	for name, c := range map[string]struct {
		err  error
		code wire.Code
		wait time.Duration
	}{
		"the id is being stored": {&storeerr.Error{Code: 409, ErrCode: 10158}, wire.Unavailable, time.Second},
		"the tenant's limit":     {&storeerr.Error{Code: 400, ErrCode: 10002}, wire.Unavailable, 10 * time.Second},
		"no answer":              {inbox.ErrPublishTimeout, wire.Unavailable, time.Second},
		"refused":                {&storeerr.Error{Code: 400, ErrCode: 10054}, wire.Internal, 0},
	} {
		opts := s.opts
		opts.Publisher = failing{s.opts.Publisher, c.err}
		in, err := send.New(opts)
		testkit.Check(t, err)
		for how, e := range map[string]*wire.Envelope{
			"to one device": {ID: "1", Type: "note", ToDeviceID: "desk"}, "to all": {ID: "1", Type: "note", To: &wire.To{}},
			"to services": {ID: "1", Type: "note", To: &wire.To{Service: true}},
		} {
			if _, werr := in.Send(t.Context(), phone(), e); werr == nil || werr.Code != c.code || werr.RetryAfter != c.wait || werr.OriginalID != "1" {
				t.Errorf("%s, %s: told %+v, want %s after %s", name, how, werr, c.code, c.wait)
			}
		}
	}
}

func TestServiceSendsToRegisteredDevicesOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, "desk", "other")
	in := s.intake()
	billing := send.Service("billing", "alice")
	if _, werr := in.Send(t.Context(), billing, &wire.Envelope{ID: "1", Type: "note", To: &wire.To{Device: "never"}}); werr == nil || werr.Code != wire.DeviceNotFound {
		t.Errorf("to a device that never registered: told %v", werr)
	}
	told, werr := in.Send(t.Context(), billing, &wire.Envelope{ID: "2", Type: "note", To: &wire.To{}, Payload: []byte("1")})
	if werr != nil || len(told.Recipients) != 2 {
		t.Fatalf("to all: told %+v %v", told, werr)
	}
	again, werr := in.Send(t.Context(), billing, &wire.Envelope{ID: "2", Type: "note", To: &wire.To{}, Payload: []byte("1")})
	if werr != nil || !again.Duplicate || !slices.Equal(again.Recipients, told.Recipients) {
		t.Errorf("the repeat was told %+v %v, want the first one's recipients", again, werr)
	}
	if _, werr := in.Send(t.Context(), billing, &wire.Envelope{ID: "3", Type: "note", To: &wire.To{Service: true}}); werr == nil || werr.Code != wire.BadMessage {
		t.Errorf("to services: told %v", werr)
	}
}

func TestDelayedMessageIsCancelledByItsSender(t *testing.T) {
	t.Parallel()
	s := newSite(t, "my phone", "desk", "other")
	in := s.intake()
	e := &wire.Envelope{ID: "later", Type: "note", To: &wire.To{}, DeliverAt: time.Now().Add(time.Hour)}
	if told, werr := in.Send(t.Context(), phone(), e); werr != nil || len(told.Recipients) != 2 || told.Recipients[0].Seq != 0 {
		t.Fatalf("told %+v %v", told, werr)
	}
	if n, werr := in.Cancel(t.Context(), send.Service("billing", "alice"), "later"); n != 0 || werr != nil {
		t.Errorf("somebody else cancelled %d: %v", n, werr)
	}
	if n, werr := in.Cancel(t.Context(), phone(), "later"); n != 2 || werr != nil {
		t.Errorf("cancelled %d: %v, want both copies", n, werr)
	}
}

// A sender that has not heard accepted sends again. By then the message may have
// come due, or the repeat may be the first that is late.
func TestRepeatOfADelayedMessageIsStoredOnceAlsoWhenItIsDue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to wire.To
		in time.Duration
	}{
		"one device":             {wire.To{Device: "desk"}, 100 * time.Millisecond},
		"several devices":        {wire.To{}, 100 * time.Millisecond},
		"in the past":            {wire.To{Device: "desk"}, -time.Hour},
		"before there were days": {wire.To{Device: "desk"}, -(1 << 62)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "my phone", "desk", "other")
			in := s.intake()
			at := time.Now().Add(c.in)
			if c.in < -time.Hour {
				at = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
			}
			e := &wire.Envelope{ID: "later", Type: "note", To: &c.to, DeliverAt: at, RequiresAck: true, Payload: []byte("1")}
			first, werr := in.Send(t.Context(), phone(), e)
			if werr != nil || first.Duplicate || len(first.Recipients) == 0 {
				t.Fatalf("told %+v %v", first, werr)
			}
			testkit.Eventually(t, "the message is due", func() bool { return s.inboxes() == len(first.Recipients) })
			again, werr := in.Send(t.Context(), phone(), e)
			if werr != nil || !again.Duplicate || !slices.Equal(again.Recipients, first.Recipients) {
				t.Errorf("the repeat was told %+v %v, want a duplicate for %+v", again, werr, first.Recipients)
			}
			// Whatever the repeat stored is in the inboxes before this one.
			mark := &wire.Envelope{ID: "mark", Type: "note", ToDeviceID: "desk", DeliverAt: time.Now(), Payload: []byte("2")}
			if _, werr := in.Send(t.Context(), phone(), mark); werr != nil {
				t.Fatal(werr)
			}
			testkit.Eventually(t, "the mark is there", func() bool { return s.inboxes() > len(first.Recipients) })
			if n := s.inboxes(); n != len(first.Recipients)+1 {
				t.Errorf("the inboxes hold %d messages, want %d and the mark", n, len(first.Recipients))
			}
		})
	}
}

// inboxes returns how many messages the inboxes hold.
func (s *site) inboxes() int {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), layout.StreamInbox)
	testkit.Check(s.t, err)
	return int(stream.CachedInfo().State.Msgs)
}

func TestLimiterCountsForEachSenderAndGivesBack(t *testing.T) {
	t.Parallel()
	var refused []string
	l := send.NewLimiter(send.Rates{DeviceMessages: 1, UserBytes: 10, MaxMessage: 100, Limited: func(scope string) { refused = append(refused, scope) }})
	now := time.Now()
	a, b := send.Device(subjects.Address{User: "alice", Device: "a"}), send.Device(subjects.Address{User: "alice", Device: "b"})
	for i, c := range []struct {
		from send.From
		size int
		ok   bool
	}{{a, 90, true}, {a, 20, false}, {a, 10, true}, {a, 0, false}, {b, 1, false}} {
		if werr := l.Take("t", &c.from, c.size, now); (werr == nil) != c.ok || werr != nil && werr.RetryAfter <= 0 {
			t.Errorf("message %d: %v", i, werr)
		}
	}
	if want := []string{"user_bytes", "device_messages", "user_bytes"}; !slices.Equal(refused, want) {
		t.Errorf("refused by %v, want %v", refused, want)
	}
	if l.Take("other tenant", &b, 1, now) != nil || l.Take("t", &a, 1, now.Add(time.Second)) != nil {
		t.Error("another tenant, or a later message, was refused")
	}
	if werr := send.NewLimiter(send.Rates{}).Take("t", &a, 1<<30, now); werr != nil {
		t.Errorf("without bounds: %v", werr)
	}
}

var errAway = errors.New("the store is away")

// admitsNobody is an inbox that cannot be asked.
type admitsNobody struct{ send.Inbox }

func (admitsNobody) Admit(context.Context, subjects.Key, int) error { return errAway }

func TestInboxThatCannotBeCountedIsUnavailable(t *testing.T) {
	t.Parallel()
	s := newSite(t, "my phone", "desk")
	s.opts.Inbox = admitsNobody{s.opts.Inbox}
	if _, werr := s.intake().Send(t.Context(), phone(), &wire.Envelope{ID: "1", Type: "note", ToDeviceID: "desk"}); werr == nil || werr.Code != wire.Unavailable {
		t.Errorf("told %v", werr)
	}
}

// A repeat of a message for several devices is told where their copies are. They
// are looked for: a probe that is published would, in a cluster, have its id be
// one that is being stored.
func TestCopiesOfARepeatedMessageAreLookedForAndNotPublished(t *testing.T) {
	t.Parallel()
	s := newSite(t, "my phone", "desk", "other")
	in := s.intake()
	published, err := s.opts.Core.SubscribeSync("rccs.inbox.>")
	testkit.Check(t, err)
	testkit.Check(t, s.opts.Core.Flush())
	e := wire.Envelope{ID: "1", Type: "note", To: &wire.To{}, Payload: []byte("1"), Priority: wire.Normal}
	first, werr := in.Send(t.Context(), phone(), &e)
	if werr != nil || len(first.Recipients) != 2 {
		t.Fatalf("told %+v, %v", first, werr)
	}
	e.To, e.ToDeviceID = nil, "other"
	again, werr := in.Send(t.Context(), phone(), &e)
	if werr != nil || !again.Duplicate || !slices.Equal(again.Recipients, first.Recipients) {
		t.Errorf("the repeat was told %+v, %v; want %+v", again, werr, first.Recipients)
	}
	testkit.Check(t, s.opts.Core.Flush())
	if n, _, err := published.Pending(); err != nil || n != 3 {
		t.Errorf("%d messages were published, %v; want two copies and the repeat", n, err)
	}
}
