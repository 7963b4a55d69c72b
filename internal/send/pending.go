package send

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// repeatTimeout bounds the look at an earlier message of which this is a repeat.
const repeatTimeout = 15 * time.Second

// pending is a message that the store has not answered for.
type pending struct {
	in      *Intake
	ctx     context.Context //nolint:containedctx // of what is asked after the call
	w       Waiter
	id      string
	sender  envelope.Sender
	tell    bool // what was accepted
	later   bool // it has no sequence in an inbox yet
	start   time.Time
	targets []subjects.DeviceID
}

func (in *Intake) pending(ctx context.Context, from *From, e *wire.Envelope, w Waiter, tell bool) *pending {
	return &pending{in: in, ctx: ctx, w: w, id: e.ID, sender: in.sender(from), tell: tell, start: time.Now()}
}

func (p *pending) finish(a *wire.Accepted, err error) {
	r := Result{ID: p.id, Accepted: a, Took: time.Since(p.start)}
	if err != nil {
		r.Accepted, r.Err = nil, StoreError(err).For(p.id)
	}
	if p.in.log.Enabled(p.ctx, slog.LevelDebug) {
		p.in.debug(p.sender, &r, len(p.targets))
	}
	p.w.Sent(r)
}

// debug logs how a message was answered, under the id that its sender gave it:
// the coordinator logs the same one, and the answer has it.
func (in *Intake) debug(from envelope.Sender, r *Result, copies int) {
	user := ""
	if a, err := from.Key.Address(); err == nil {
		user = string(a.User)
	}
	log := in.log.With("id", r.ID, "user", user, "device", string(from.Device), "copies", copies, "took", r.Took)
	if r.Err != nil {
		log.Debug("message not stored", "answer", string(r.Err.Code))
	} else {
		log.Debug("message stored", "answer", "accepted")
	}
}

// contain ends a panic on a goroutine that is not the sender's.
func (p *pending) contain() {
	v := recover()
	if v == nil {
		return
	}
	p.in.log.Error("panic while a message was stored", "panic", v, "stack", string(debug.Stack()))
	p.w.Sent(Result{ID: p.id, Err: wire.NewError(wire.Internal, "a fault of the server").For(p.id), Panic: v})
}

// doneOne is done for a message of one copy.
func (p *pending) doneOne(r inbox.Receipt, err error) {
	p.done(inbox.BatchReceipt{First: r.Seq, Last: r.Seq, Duplicate: r.Duplicate}, err)
}

// done is called on the publisher's goroutine, which must not wait.
func (p *pending) done(r inbox.BatchReceipt, err error) {
	defer p.contain()
	switch {
	case err != nil || !p.tell:
		p.finish(nil, err)
	case r.Duplicate && len(p.targets) > 0 && !p.later:
		go p.repeated(r) // it waits for the store
	default:
		p.finish(p.accepted(r), nil)
	}
}

func (p *pending) accepted(r inbox.BatchReceipt) *wire.Accepted {
	a := &wire.Accepted{OriginalID: p.id, Duplicate: r.Duplicate, Recipients: make([]wire.Recipient, len(p.targets))}
	for n, device := range p.targets {
		a.Recipients[n].DeviceID = device
		if !p.later {
			a.Recipients[n].Seq = r.First + uint64(n)
		}
	}
	return a
}

// repeated answers a repeat of a message: it went to the first one's
// recipients, whomever it names now.
func (p *pending) repeated(r inbox.BatchReceipt) {
	defer p.contain()
	ctx, cancel := context.WithTimeout(p.ctx, repeatTimeout)
	defer cancel()
	a := p.accepted(r)
	first, err := p.in.opts.Inbox.Recipients(ctx, r.First)
	if err != nil {
		p.in.log.Warn("recipients of a repeated message not found", "seq", r.First, "err", err)
	} else {
		a.Recipients = a.Recipients[:0]
		for n, to := range first {
			address, err := to.Key.Address()
			if err != nil {
				continue
			}
			if to.Seq == 0 {
				if to.Seq, err = p.in.opts.Inbox.Find(ctx, address, p.sender.DedupID(p.id, n), r.First); err != nil {
					p.in.log.Warn("copy of a repeated message not found", "device", string(to.Key), "err", err)
				}
			}
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: address.Device, Seq: to.Seq})
		}
	}
	p.finish(a, nil)
}

// single is a pending message for one device, with all the memory that it needs
// until it is stored. It is used again when the publisher has no more use for
// the message.
type single struct {
	pending
	form     envelope.Form
	target   [1]subjects.DeviceID
	answered func(inbox.Receipt, error) // bound once
}

var singles sync.Pool

func newSingle() *single {
	if o, ok := singles.Get().(*single); ok {
		return o
	}
	o := new(single)
	o.answered = o.doneSingle
	return o
}

// doneSingle is called on the publisher's goroutine, which must not wait.
func (o *single) doneSingle(r inbox.Receipt, err error) {
	again := r.Free && err == nil && !r.Duplicate // a repeat has more to do
	o.doneOne(r, err)
	if again {
		o.release()
	}
}

// keepBuffer is the largest buffer that a single keeps for the next message.
const keepBuffer = 64 << 10

// release gives o back to the pool. Nothing may use o afterwards.
func (o *single) release() {
	o.form.Reset(keepBuffer)
	o.pending, o.target[0] = pending{}, ""
	singles.Put(o)
}

// toNamed is the common case, a message for one registered device. It does not
// look at the user's other devices, and decides as [roster.Route] would. If it
// returns false, the caller asks roster.Route.
func (in *Intake) toNamed(ctx context.Context, from *From, e *wire.Envelope, device subjects.DeviceID, w Waiter, tell bool) bool {
	if later(e) {
		return false
	}
	o := newSingle()
	sender := in.sender(from)
	key := o.form.Address(e, sender, subjects.Address{User: from.Address.User, Device: device})
	if in.opts.Roster.Get(key) == nil {
		o.release()
		return false
	}
	if werr := in.admit(ctx, device, key, len(e.Payload)); werr != nil {
		o.release()
		in.refuse(e, w, werr)
		return true
	}
	o.target[0] = device
	o.pending = pending{
		in: in, ctx: ctx, w: w, id: e.ID, sender: sender, tell: tell, start: time.Now(), targets: o.target[:],
	}
	in.opts.Publisher.Publish(o.form.Inbox(e, sender), o.answered)
	return true
}
