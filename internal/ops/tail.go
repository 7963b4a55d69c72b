package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Kinds of [Flow].
const (
	FlowInbox  = "inbox"  // a message was stored for the device
	FlowUp     = "up"     // the device sent to services
	FlowSignal = "signal" // an ephemeral message to the device
	FlowEvent  = "event"  // something happened to the device
	FlowCursor = "cursor" // the device was sent messages, or acknowledged some
)

// FlowKinds are the kinds of [Flow].
func FlowKinds() []string { return []string{FlowInbox, FlowUp, FlowSignal, FlowEvent, FlowCursor} }

// Flow is something that flows to or from a device. Fields that its kind has
// no use for are left out.
type Flow struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	User   string    `json:"user"`
	Device string    `json:"device"`
	Lane   string    `json:"lane,omitempty"`
	Seq    uint64    `json:"seq,omitempty"` // in its stream
	ID     string    `json:"id,omitempty"`
	Type   string    `json:"type,omitempty"`
	From   string    `json:"from,omitempty"`
	Bytes  int       `json:"bytes,omitempty"`
	Replay bool      `json:"replay,omitempty"`
	Event  string    `json:"event,omitempty"`
	// Of a cursor: up to AckFloor all is acknowledged, up to Sent all was sent,
	// and Unacked of that is not acknowledged.
	AckFloor uint64 `json:"settled,omitempty"`
	Sent     uint64 `json:"sent,omitempty"`
	Unacked  int    `json:"owed,omitempty"`
	// Payload is what an envelope would hold; of an event its body.
	Payload  json.RawMessage `json:"payload,omitempty"`
	Encoding string          `json:"encoding,omitempty"`

	// Of a cursor: where it was before.
	was uint64
}

// TailOptions say what to watch.
type TailOptions struct {
	Scope subjects.Scope
	// Kinds; none means all.
	Kinds []string
	// Payload fills [Flow.Payload].
	Payload bool
	// Started, if set, is called when nothing that happens from then on is
	// missed.
	Started func()
	// Each gets every flow. Those of one kind come in order.
	Each func(*Flow) error
}

// tailBuffer is how many flows may wait to be handed out.
const tailBuffer = 4096

// Tail watches what flows to and from devices until ctx ends, which is no
// error, or Each returns an error. Nothing that is stored is missed, however
// long Each takes; signals are dropped when it is slow.
func (t *Tenant) Tail(ctx context.Context, opts TailOptions) error {
	if len(t.parts) > 0 && opts.Scope.User == "" {
		return t.tailOfAll(ctx, opts)
	}
	t = t.of(opts.Scope.User)
	tl := &tail{t: t, opts: &opts, flows: make(chan *Flow, tailBuffer), quit: make(chan struct{})}
	tl.cursors = make(map[subjects.Key]inbox.Cursor)
	defer tl.stop()
	if err := tl.start(ctx); err != nil {
		return err
	}
	if opts.Started != nil {
		opts.Started()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-tl.flows:
			if empty, err := tl.empty(ctx, f); err != nil || empty {
				if err != nil && ctx.Err() == nil {
					return err
				}
				continue
			}
			if err := opts.Each(f); err != nil {
				return err
			}
		}
	}
}

// tail is one under way.
type tail struct {
	t       *Tenant
	opts    *TailOptions
	flows   chan *Flow
	quit    chan struct{} // closed at the end
	readers []*reader.Reader
	sub     *nats.Subscription
	cursors map[subjects.Key]inbox.Cursor // last seen; of the cursors' reader
	proof   *proof.Key
}

// empty reports whether a cursor has moved over nothing: those of lanes without
// messages follow the stream, too.
func (tl *tail) empty(ctx context.Context, f *Flow) (bool, error) {
	if f.Kind != FlowCursor || f.Unacked > 0 {
		return false, nil
	}
	l, _ := subjects.ParseLane(f.Lane)
	k := subjects.Address{User: subjects.UserID(f.User), Device: subjects.DeviceID(f.Device)}.Key()
	last, err := tl.t.lastInbox.Get(ctx, []string{subjects.Inbox(k, l)})
	if err != nil {
		return false, fmt.Errorf("ops: look for the inbox: %w", err)
	}
	return last[0] == nil || last[0].Seq <= f.was, nil
}

func (tl *tail) wants(kind string) bool {
	return len(tl.opts.Kinds) == 0 || slices.Contains(tl.opts.Kinds, kind)
}

func (tl *tail) start(ctx context.Context) (err error) {
	s := tl.opts.Scope
	if tl.proof, err = tl.t.proof(ctx); err != nil {
		return err
	}
	if s.Device != "" {
		c, err := tl.t.cursor(ctx, subjects.Address(s).Key())
		if err != nil {
			return err
		}
		tl.cursors[subjects.Address(s).Key()] = c
	}
	for _, source := range []struct {
		kind, stream, filter string
		handle               func(reader.Entry)
	}{
		{FlowCursor, layout.StreamCursor, layout.Cursors(s), tl.onCursor},
		{FlowEvent, subjects.StreamEvent, s.Events(), tl.onEvent},
		{FlowUp, subjects.StreamUp, s.Ups(), tl.onUp},
		{FlowInbox, layout.StreamInbox, s.Inboxes(), tl.onInbox},
	} {
		if !tl.wants(source.kind) {
			continue
		}
		r, err := reader.New(reader.Options{
			Conn: tl.t.nc, Stream: source.stream, Shard: tl.t.shard, Filter: []string{source.filter}, Handle: source.handle, Logger: tl.t.log,
		})
		if err != nil {
			return err
		}
		if err := r.Start(ctx); err != nil {
			return fmt.Errorf("ops: watch %s: %w", source.stream, err)
		}
		tl.readers = append(tl.readers, r)
	}
	if !tl.wants(FlowSignal) {
		return nil
	}
	// Requests are not listened to: whoever does makes an absent device look
	// as if it answered.
	if tl.sub, err = tl.t.nc.Subscribe(s.Signals(), tl.onSignal); err != nil {
		return fmt.Errorf("ops: watch signals: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return tl.t.nc.FlushWithContext(ctx)
}

// stop ends the readers; one that waits to hand out a flow gives up.
func (tl *tail) stop() {
	close(tl.quit)
	if tl.sub != nil {
		_ = tl.sub.Unsubscribe()
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range tl.readers {
		wg.Go(func() { _ = r.Stop(ctx) })
	}
	wg.Wait()
}

// hand gives a flow to the watcher, and waits while that is slow: the reader
// then reads no further, and misses nothing.
func (tl *tail) hand(f *Flow) {
	select {
	case tl.flows <- f:
	case <-tl.quit:
	}
}

// flow is one about a device; nil when a service misspelt its name.
func flow(k subjects.Key, kind string, e *reader.Entry) *Flow {
	a, err := k.Address()
	if err != nil {
		return nil
	}
	return &Flow{At: time.Unix(0, e.Time).UTC(), Kind: kind, User: string(a.User), Device: string(a.Device), Seq: e.Seq}
}

func (tl *tail) onInbox(e reader.Entry) {
	k, l, ok := subjects.ParseInbox(e.Subject)
	if f := flow(k, FlowInbox, &e); ok && f != nil {
		f.Lane = l.String()
		m, ok := envelope.Parse(tl.proof, envelope.Stored{Subject: e.Subject, Seq: e.Seq, Header: e.Header, Data: e.Data})
		tl.message(f, e.Header, e.Data, ok && m.Authentic)
		tl.hand(f)
	}
}

func (tl *tail) onUp(e reader.Entry) {
	k, _, ok := subjects.ParseUp(e.Subject)
	if f := flow(k, FlowUp, &e); ok && f != nil {
		tl.message(f, e.Header, e.Data, false)
		tl.hand(f)
	}
}

func (tl *tail) onSignal(m *nats.Msg) {
	k, ok := subjects.ParseSignal(m.Subject)
	f := flow(k, FlowSignal, &reader.Entry{Time: time.Now().UnixNano()})
	if !ok || f == nil {
		return
	}
	if n, err := strconv.Atoi(envelope.Value(m.Header, subjects.HeaderPriority)); err == nil && n >= 0 && n < subjects.Lanes {
		f.Lane = subjects.Lane(n).String()
	}
	tl.message(f, m.Header, m.Data, false)
	select {
	case tl.flows <- f:
	default:
	}
}

// message fills what headers and body say.
func (tl *tail) message(f *Flow, h nats.Header, data []byte, authentic bool) {
	m := Message{Seq: f.Seq, header: h}
	m.describe(authentic)
	f.ID, f.Type, f.From, f.Replay, f.Bytes = m.ID, m.Type, string(m.From), m.Replay, len(data)
	if f.Kind == FlowUp {
		f.From = f.Device
	}
	if f.Seq == 0 && envelope.Value(h, subjects.HeaderID) == "" {
		f.ID = ""
	}
	if tl.opts.Payload {
		f.Payload, f.Encoding = envelope.Payload(data)
	}
}

func (tl *tail) onEvent(e reader.Entry) {
	k, kind, ok := subjects.ParseEvent(e.Subject)
	f := flow(k, FlowEvent, &e)
	if !ok || f == nil {
		return
	}
	f.Event = kind
	var body struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		Lane string `json:"lane"`
	}
	if json.Unmarshal(e.Data, &body) == nil {
		f.ID, f.Type, f.Lane = body.ID, body.Type, body.Lane
	}
	if tl.opts.Payload {
		f.Payload, f.Encoding = envelope.Payload(e.Data)
	}
	tl.hand(f)
}

// onCursor tells of the lanes in which a cursor has moved.
func (tl *tail) onCursor(e reader.Entry) {
	k, ok := layout.ParseCursor(e.Subject)
	if !ok {
		return
	}
	c, err := inbox.ParseCursor(e.Data)
	if err != nil {
		return
	}
	was := tl.cursors[k]
	tl.cursors[k] = c
	for l := range subjects.Lane(subjects.Lanes) {
		if c.Sent[l] == was.Sent[l] && slices.Equal(c.Unacked[l], was.Unacked[l]) {
			continue
		}
		f := flow(k, FlowCursor, &e)
		if f == nil {
			return
		}
		f.Lane, f.AckFloor, f.Sent, f.Unacked, f.was = l.String(), c.AckFloor(l), c.Sent[l], len(c.Unacked[l]), was.AckFloor(l)
		tl.hand(f)
	}
}
