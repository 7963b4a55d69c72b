package api

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// defaultTimeout is how long a request waits when it does not say.
const defaultTimeout = 10 * time.Second

// partsWaiting bounds the parts that may wait for a slow client.
const (
	partsWaiting = 4096
	partsBytes   = 64 << 20
)

// question is a request to a connected device.
type question struct {
	from    string // the service that asks
	proof   *proof.Key
	to      subjects.Address
	method  string
	params  []byte
	timeout time.Duration // of the answer, or its next part; 0: the default
	place   string        // in a trace
	span    trace.Span    // of the question; nil: it is not recorded
}

// asking is a question under way. It is for one goroutine.
type asking struct {
	nc   *nats.Conn
	q    *question
	id   string
	from envelope.Sender
	sub  *nats.Subscription
	over bool      // nobody answers any more
	code wire.Code // of the last error
}

// part is one part of an answer.
type part struct {
	result []byte
	last   bool
}

// ask puts a question. The answer is to be closed.
func ask(ctx context.Context, nc *nats.Conn, q *question) (*asking, error) {
	q.timeout = cmp.Or(q.timeout, defaultTimeout)
	from := subjects.Address{User: q.to.User, Device: subjects.DeviceID("service:" + q.from)}
	a := &asking{nc: nc, q: q, id: nuid.Next(), from: envelope.Sender{Key: from.Key(), Device: from.Device, Proof: q.proof}}
	var err error
	if a.sub, err = nc.SubscribeSync(nc.NewInbox()); err != nil {
		a.over, a.code = true, wire.Unavailable
		return a, err
	}
	if err := a.sub.SetPendingLimits(partsWaiting, partsBytes); err != nil {
		return a, err
	}
	e := wire.NewEnvelope(a.id, wire.TypeRequest, nil)
	e.Traceparent = q.place
	m := envelope.Request(&e, a.from, q.to.Key(), q.method, q.timeout, q.params)
	m.Reply = a.sub.Subject
	if err := nc.PublishMsg(m); err != nil {
		a.over, a.code = true, wire.Unavailable
		return a, err
	}
	return a, ctx.Err()
}

// next waits for the next part. The error is a [*wire.Failure] of the device, or
// a [*wire.Error].
func (a *asking) next(ctx context.Context) (part, error) {
	p, err := a.wait(ctx)
	a.code = codeOf(err)
	return p, err
}

func (a *asking) wait(ctx context.Context) (part, error) {
	wait, cancel := context.WithTimeout(ctx, a.q.timeout)
	defer cancel()
	m, err := a.sub.NextMsgWithContext(wait)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return part{}, ctx.Err()
	case errors.Is(err, nats.ErrNoResponders):
		a.over = true
		return part{}, wire.NewError(wire.DeviceOffline, string(a.q.to.Device)+" is not connected")
	case errors.Is(err, context.DeadlineExceeded):
		return part{}, wire.Errorf(wire.Timeout, "no response from %s within %s", a.q.to.Device, a.q.timeout)
	default:
		return part{}, err
	}
	if m.Header.Get("Status") == "503" && len(m.Data) == 0 {
		a.over = true
		return part{}, wire.NewError(wire.DeviceOffline, string(a.q.to.Device)+" is not connected")
	}
	if code := wire.Code(m.Header.Get(subjects.HeaderError)); code != "" {
		a.over = true
		if !code.Known() {
			code = wire.Internal
		}
		return part{}, wire.NewError(code, envelope.Value(m.Header, "Nats-Service-Error"))
	}
	p := part{last: m.Header.Get(subjects.HeaderPartial) != "true"}
	a.over = p.last
	r, err := wire.DecodeResponse(m.Data)
	switch {
	case err != nil:
		return part{}, wire.NewError(wire.Internal, "the device's answer cannot be read")
	case r.Failure != nil:
		a.over = true
		return part{}, r.Failure
	}
	p.result = r.Result
	return p, nil
}

// close gives the question up when it is not answered: the device is told.
func (a *asking) close() {
	if a.sub != nil {
		_ = a.sub.Unsubscribe()
	}
	if !a.over && a.code == "" {
		a.code = trace.Cancelled
	}
	if a.q.span != nil {
		a.q.span.End(a.code, time.Now())
	}
	if a.over {
		return
	}
	a.over = true
	_ = a.nc.PublishMsg(envelope.Cancel(a.id, a.from, a.q.to.Key(), a.q.method))
}
