package send

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Inbox reports whether there is room for a message, and who got an earlier one.
type Inbox interface {
	// Admit refuses with [inbox.ErrFull] what a device's inbox has no room for.
	Admit(ctx context.Context, k subjects.Key, n int) error
	// Recipients returns who got the message of which the first copy is seq.
	Recipients(ctx context.Context, seq uint64) ([]inbox.Recipient, error)
	// Find returns where a copy with a Nats-Msg-Id was stored, from a sequence on;
	// 0 if it is not found.
	Find(ctx context.Context, to subjects.Address, msgID string, from uint64) (uint64, error)
	// Withdraw cancels the delayed messages on some subjects for the device that sent
	// them, and returns how many will not come any more.
	Withdraw(ctx context.Context, names []string) (uint64, error)
}

// Publisher stores messages; [inbox.Publisher] is the one.
type Publisher interface {
	Publish(msg *nats.Msg, done func(inbox.Receipt, error))
	PublishBatch(msgs []*nats.Msg, done func(inbox.BatchReceipt, error))
}

// Options are the parts that an [Intake] is made of. All but Proof, Limiter
// and Logger are needed.
type Options struct {
	Roster    *roster.Roster
	Inbox     Inbox
	Publisher Publisher
	// Core carries what is not stored.
	Core *nats.Conn
	// JetStream reaches the bucket of tasks, and what waits for its time.
	JetStream jetstream.JetStream
	Tasks     Tasks
	// Proof is the tenant's key, for ids that no service can guess.
	Proof *proof.Key
	// Forgetful, if set, reports whether the store may have forgotten the ids of what
	// is sent again.
	Forgetful func() bool
	// Shares bound what is stored for, and by, each device and user; nil: nothing
	// does.
	Shares *share.Shares
	// MaxDelay is how far ahead deliverAt may lie; 0 is [wire.MaxDelay].
	MaxDelay time.Duration
	// Limiter bounds what each device sends; nil: the caller does.
	Limiter *Limiter
	// Account is the tenant's, for the limiter.
	Account string
	// Tracer records the way of single messages; nil: none is recorded.
	Tracer trace.Tracer
	// Protocol is how devices reach the intake, for traces: websocket or nats.
	Protocol string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Intake takes the messages of one tenant.
type Intake struct {
	opts Options
	log  *slog.Logger
}

// New makes an intake. It has nothing to stop.
func New(opts Options) (*Intake, error) {
	if opts.Roster == nil || opts.Inbox == nil || opts.Publisher == nil || opts.Core == nil || opts.JetStream == nil || opts.Tasks.KV == nil {
		return nil, errors.New("send: Roster, Inbox, Publisher, Core, JetStream and Tasks are needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Intake{opts: opts, log: opts.Logger}, nil
}

// From is who sends: [Device] or [Service] makes one.
type From struct {
	// Address is a device's. A service has one among those of the user that it
	// sends to, under a name that no device has.
	Address subjects.Address
	// Key is Address.Key().
	Key subjects.Key
	// Service reports whether the sender is a service.
	Service bool
	// IssuedTo is a service's credential, see [layout.IssuedTo]; empty: not known.
	// What the service delays ends when that is revoked.
	IssuedTo string
}

// Device is a device that sends.
func Device(a subjects.Address) From { return From{Address: a, Key: a.Key()} }

// Service is a service that sends to a user's devices.
func Service(name string, to subjects.UserID) From {
	a := subjects.Address{User: to, Device: subjects.DeviceID("service:" + name)}
	return From{Address: a, Key: a.Key(), Service: true}
}

func (in *Intake) sender(f *From) envelope.Sender {
	unsure := in.opts.Forgetful != nil && in.opts.Forgetful()
	return envelope.Sender{Key: f.Key, Device: f.Address.Device, Proof: in.opts.Proof, Unsure: unsure}
}

func (f *From) peer(device subjects.DeviceID) subjects.Key {
	return subjects.Address{User: f.Address.User, Device: device}.Key()
}

// Result is what became of a message.
type Result struct {
	// ID is the envelope's.
	ID string
	// Accepted is set when the message was accepted and asked for it by
	// requiresAck; Err when it was not.
	Accepted *wire.Accepted
	Err      *wire.Error
	// Panic is the value of a panic in this package. It ends this message alone,
	// which may have been stored; Err is set as well.
	Panic any
	// Took is how long the store needed; 0 when it was not asked.
	Took time.Duration
	// Trace is the id of the message's trace, for exemplars; empty: it is not
	// recorded.
	Trace string
}

// Waiter gets the result of a message: Sent is called once, on any goroutine, and
// must not block.
type Waiter interface{ Sent(Result) }

// Send takes a message and returns when it is stored, or when ctx ends: it may
// be stored then. The error's OriginalID is the envelope's id.
func (in *Intake) Send(ctx context.Context, from From, e *wire.Envelope) (*wire.Accepted, *wire.Error) {
	asks := *e
	w := make(channelWaiter, 1)
	in.start(ctx, from, &asks, w, true)
	select {
	case r := <-w:
		return r.Accepted, r.Err
	case <-ctx.Done():
		return nil, notKnown().For(e.ID)
	}
}

type channelWaiter chan Result

func (w channelWaiter) Sent(r Result) { w <- r }

// Start is like Send, but does not wait until the message is stored: w gets the
// result. A message that is recorded has its place in the trace as e.Traceparent
// afterwards. ctx bounds the call, and what it asks of the store afterwards.
func (in *Intake) Start(ctx context.Context, from From, e *wire.Envelope, w Waiter) {
	in.start(ctx, from, e, w, e.RequiresAck)
}

// start takes a message. tell says that the waiter wants to know what was
// accepted.
func (in *Intake) start(ctx context.Context, from From, e *wire.Envelope, w Waiter, tell bool) {
	if in.opts.Tracer != nil {
		w = in.record(&from, e, w)
	}
	if werr := Check(&from, e, in.opts.MaxDelay); werr != nil {
		in.refuse(e, w, werr)
		return
	}
	if !from.Service && in.opts.Limiter != nil {
		if werr := in.opts.Limiter.Take(in.opts.Account, &from, len(e.Payload), time.Now()); werr != nil {
			in.refuse(e, w, werr)
			return
		}
	}
	to, _ := e.Target()
	if to.Device != "" && !e.Ephemeral && !roster.IsHandoff(e.Type) && in.toNamed(ctx, &from, e, to.Device, w, tell) {
		return
	}
	if to.Service {
		if werr := in.opts.Shares.Admit(share.Up, from.Key, len(e.Payload)); werr != nil {
			in.refuse(e, w, werr)
			return
		}
		in.storeOne(ctx, &from, e, w, tell, envelope.Up(e, in.sender(&from), clone(e.Payload)))
		return
	}
	d, task, werr := in.route(ctx, &from, e)
	switch {
	case werr != nil:
		in.refuse(e, w, werr)
	case e.Ephemeral:
		in.signal(&from, e, d.Targets, w, tell)
	case d.Wait:
		if werr := in.opts.Shares.Admit(share.Route, from.Key, len(e.Payload)); werr != nil {
			in.refuse(e, w, werr)
			return
		}
		msg := envelope.Wait(e, in.sender(&from), to, task, clone(e.Payload))
		if later(e) && from.IssuedTo != "" {
			msg.Header.Set(layout.HeaderIssuedTo, from.IssuedTo)
		}
		in.storeOne(ctx, &from, e, w, tell, msg)
	default:
		in.toDevices(ctx, &from, e, d.Targets, w, tell)
	}
}

// refuse ends a message of which nothing was stored.
func (*Intake) refuse(e *wire.Envelope, w Waiter, werr *wire.Error) {
	w.Sent(Result{ID: e.ID, Err: werr.For(e.ID)})
}

// Check refuses an identity that is not the sender's, what asks for two things
// that do not go together, and a deliverAt that is more than maxDelay ahead.
func Check(from *From, e *wire.Envelope, maxDelay time.Duration) *wire.Error {
	if werr := CheckIdentity(from, e); werr != nil {
		return werr
	}
	to, _ := e.Target()
	switch {
	case to.Service && from.Service:
		return wire.NewError(wire.BadMessage, "to: a service sends to devices")
	case to.Service && e.Ephemeral:
		return wire.NewError(wire.BadMessage, "ephemeral: what goes to services is stored")
	case to.Service && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "deliverAt: what goes to services goes now")
	case e.Ephemeral && !e.DeliverAt.IsZero():
		return wire.NewError(wire.BadMessage, "ephemeral and deliverAt: what is not stored cannot come later")
	}
	if e.DeliverAt.IsZero() { // most messages; they need no clock
		return nil
	}
	return wire.CheckDelay(e.DeliverAt, time.Now(), maxDelay)
}

// later reports whether a message goes where messages wait for their time. So do
// those whose time has passed: one that is sent again after it was due is known
// there as a repeat, and nowhere else.
func later(e *wire.Envelope) bool { return !e.DeliverAt.IsZero() }

// CheckIdentity refuses an envelope that claims another identity than the
// credential's.
func CheckIdentity(from *From, e *wire.Envelope) *wire.Error {
	if e.FromDeviceID != "" && e.FromDeviceID != from.Address.Device {
		return wire.NewError(wire.IdentityMismatch, "fromDeviceId is not what the credential says")
	}
	if e.UserID != "" && e.UserID != from.Address.User {
		return wire.NewError(wire.IdentityMismatch, "userId is not what the credential says")
	}
	return nil
}

// route finds whom a message is for. task is the one that it belongs to, "" for
// none.
func (in *Intake) route(ctx context.Context, from *From, e *wire.Envelope) (d roster.Decision, task string, werr *wire.Error) {
	to, named := e.Target()
	m := roster.Message{Type: e.Type, To: to, HasTo: named}
	if !from.Service {
		m.From = from.Address.Device
	}
	if roster.IsTask(e.Type) && !named && !e.Ephemeral {
		task = wire.TaskID(e.Payload)
	}
	if task != "" {
		d, werr = in.claim(ctx, from, m, task)
	} else {
		d, werr = roster.Route(m, in.opts.Roster.User(from.Key))
	}
	return d, task, werr
}

// toDevices stores a message for each target, now or for later.
func (in *Intake) toDevices(ctx context.Context, from *From, e *wire.Envelope, targets []subjects.DeviceID, w Waiter, tell bool) {
	body := clone(e.Payload)
	if later(e) {
		copies, due := make([]*nats.Msg, len(targets)), !e.DeliverAt.After(time.Now())
		for n, device := range targets {
			if werr := in.admitLater(ctx, device, from.peer(device), len(body), due); werr != nil {
				in.refuse(e, w, werr)
				return
			}
			copies[n] = envelope.Later(e, in.sender(from), from.peer(device), n, body)
			if from.IssuedTo != "" {
				copies[n].Header.Set(layout.HeaderIssuedTo, from.IssuedTo)
			}
		}
		p := in.pending(ctx, from, e, w, tell)
		p.targets, p.later = targets, true
		in.opts.Publisher.PublishBatch(copies, p.done)
		return
	}
	for _, device := range targets {
		if werr := in.admit(ctx, device, from.peer(device), len(body)); werr != nil {
			in.refuse(e, w, werr)
			return
		}
	}
	if len(targets) > 1 {
		in.fanOut(ctx, from, e, targets, body, w, tell)
		return
	}
	p := in.pending(ctx, from, e, w, tell)
	p.targets = targets
	in.opts.Publisher.Publish(envelope.Inbox(e, in.sender(from), from.peer(targets[0]), 0, body), p.doneOne)
}

// admit refuses what a device's inbox has no room for.
func (in *Intake) admit(ctx context.Context, device subjects.DeviceID, k subjects.Key, size int) *wire.Error {
	if err := in.opts.Inbox.Admit(ctx, k, 1); err != nil {
		return admitError(device, err)
	}
	return in.opts.Shares.Admit(share.Inbox, k, size)
}

// admitLater refuses what there is no room for among a device's delayed messages,
// or in its inbox, if it is due.
func (in *Intake) admitLater(ctx context.Context, device subjects.DeviceID, k subjects.Key, size int, due bool) *wire.Error {
	if due {
		if werr := in.admit(ctx, device, k, size); werr != nil {
			return werr
		}
	}
	return in.opts.Shares.Admit(share.Later, k, size)
}

// storeOne stores a message whose recipient is not a device, or not known yet.
func (in *Intake) storeOne(ctx context.Context, from *From, e *wire.Envelope, w Waiter, tell bool, msg *nats.Msg) {
	in.opts.Publisher.Publish(msg, in.pending(ctx, from, e, w, tell).doneOne)
}

// signal sends an ephemeral message to those of the devices that are connected
// now. A device that is named hears it on plain NATS too, where its presence is
// not known.
func (in *Intake) signal(from *From, e *wire.Envelope, targets []subjects.DeviceID, w Waiter, tell bool) {
	body := clone(e.Payload)
	a := &wire.Accepted{OriginalID: e.ID}
	for _, device := range targets {
		to := from.peer(device)
		if err := in.opts.Core.PublishMsg(envelope.Signal(e, in.sender(from), to, body)); err != nil {
			in.log.Debug("signal not sent", "err", err)
			continue
		}
		if in.opts.Roster.Online(to) {
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: device})
		}
	}
	if !tell {
		a = nil
	}
	w.Sent(Result{ID: e.ID, Accepted: a})
}

// Cancel removes a sender's delayed message, and returns how many copies will not
// come any more.
func (in *Intake) Cancel(ctx context.Context, from From, id string) (uint64, *wire.Error) {
	stream, err := in.opts.JetStream.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return 0, in.unavailable("delayed message not cancelled", err)
	}
	filter := subjects.LaterAnywhere(from.Address.User, envelope.LaterID(from.Address.Device, id))
	before, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, in.unavailable("delayed message not cancelled", err)
	}
	n, err := in.opts.Inbox.Withdraw(ctx, slices.Collect(maps.Keys(before.State.Subjects)))
	if err != nil {
		return n, in.unavailable("delayed message not cancelled", err)
	}
	return n, nil
}

// clone copies a payload, which aliases the frame that it came in.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
