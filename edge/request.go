package edge

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// How long a request waits for its response, or for the next part of it.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = 5 * time.Minute
)

// maxAsks is how many requests of a connection may be open.
const maxAsks = 256

// ask is an open request of a device here: its last response is yet to come. It
// is guarded by Tenant.asksMu.
type ask struct {
	c       *conn // another after a takeover
	from    envelope.Sender
	token   string
	id      string
	to      subjects.Address
	method  string
	timeout time.Duration
	late    *time.Timer
	span    trace.Span // nil: it is not recorded
}

// request passes a device's request on to another device of its user.
func (c *conn) request(e *wire.Envelope) error {
	to, werr := c.named(e)
	if werr != nil {
		return werr
	}
	req, err := wire.DecodeRequest(e.Payload)
	if err != nil {
		return err
	}
	a := &ask{c: c, from: c.sender(), id: e.ID, to: to, method: req.Method, timeout: defaultTimeout}
	if req.Timeout > 0 {
		a.timeout = min(req.Timeout, maxTimeout)
	}
	if c.s.opts.Tracer != nil {
		a.span = c.begin(trace.Request, trace.Message{From: string(c.who.Address.Device), To: string(to.Device), Method: req.Method}, e)
	}
	if werr := c.tenant.open(a); werr != nil {
		endSpan(a.span, werr.Code)
		return werr
	}
	m := envelope.Request(e, c.sender(), to.Key(), req.Method, a.timeout, append([]byte(nil), req.Params...))
	m.Reply = c.tenant.base + a.token
	m.Header.Set(layout.HeaderMaxFrame, strconv.Itoa(c.maxFrame)) // its edge refuses what does not fit
	if err := c.tenant.Core.PublishMsg(m); err != nil {
		c.tenant.end(a, wire.NewError(wire.Unavailable, ""))
	}
	return nil
}

// named returns the one registered device to which an envelope is addressed.
func (c *conn) named(e *wire.Envelope) (subjects.Address, *wire.Error) {
	target, _ := e.Target()
	if target.Device == "" {
		return subjects.Address{}, wire.NewError(wire.BadMessage, "toDeviceId is missing: a "+e.Type+" goes to one named device")
	}
	to := subjects.Address{User: c.who.Address.User, Device: target.Device}
	if err := to.Check(); err != nil {
		return to, wire.NewError(wire.BadMessage, "toDeviceId: "+err.Error())
	}
	if _, ok := c.tenant.Roster.Device(to.Key()); !ok {
		return to, wire.NewError(wire.DeviceNotFound, "no device of this user is registered as "+string(target.Device))
	}
	return to, nil
}

// open records a request and starts its timeout.
func (t *Tenant) open(a *ask) *wire.Error {
	t.asksMu.Lock()
	defer t.asksMu.Unlock()
	switch {
	case a.id == "":
		return wire.NewError(wire.BadMessage, "id is missing: the response names it")
	case a.c.calls.asks[a.id] != nil:
		return wire.NewError(wire.BadMessage, "a request with this id is still open")
	case len(a.c.calls.asks) >= maxAsks:
		e := wire.NewError(wire.RateLimited, "too many requests are open: wait for responses")
		e.RetryAfter = retryAfter
		return e
	}
	t.askNo++
	a.token = strconv.FormatUint(t.askNo, 36)
	t.asks[a.token] = a
	if a.c.calls.asks == nil {
		a.c.calls.asks = make(map[string]*ask)
	}
	a.c.calls.asks[a.id] = a
	a.late = time.AfterFunc(a.timeout, func() {
		if t.end(a, wire.NewError(wire.Timeout, "no response from "+string(a.to.Device)+" within "+a.timeout.String())) {
			t.cancel(a)
		}
	})
	return nil
}

// end closes a request, and tells the requester err if there is one; false if it
// was closed already.
func (t *Tenant) end(a *ask, err *wire.Error) bool {
	c := t.remove(a, trace.CodeOf(err))
	if c != nil && err != nil {
		c.contained(func() { c.tell(err.For(a.id)) })
	}
	return c != nil
}

// giveUp closes a request whose requester no longer waits, and tells the device;
// false if it was closed already.
func (t *Tenant) giveUp(a *ask) bool {
	if t.remove(a, trace.Cancelled) == nil {
		return false
	}
	t.cancel(a)
	return true
}

// remove forgets a request that ended with a code, and returns the requester's
// connection; nil if it was closed already.
func (t *Tenant) remove(a *ask, code wire.Code) *conn {
	t.asksMu.Lock()
	if t.asks[a.token] != a {
		t.asksMu.Unlock()
		return nil
	}
	c := a.c
	delete(t.asks, a.token)
	delete(c.calls.asks, a.id)
	a.late.Stop()
	t.asksMu.Unlock()
	endSpan(a.span, code)
	return c
}

// cancel tells the device that nobody waits for its response any more.
func (t *Tenant) cancel(a *ask) {
	m := envelope.Cancel(a.id, a.from, a.to.Key(), a.method)
	if err := t.Core.PublishMsg(m); err != nil {
		t.Logger.Debug("cancellation not sent", "err", err)
	}
}

// cancelAsk gives up the device's request with this id; false if there is none.
func (c *conn) cancelAsk(id string) bool {
	t := c.tenant
	t.asksMu.Lock()
	a := c.calls.asks[id]
	t.asksMu.Unlock()
	return a != nil && t.giveUp(a)
}

// dropAsks gives up all requests of a connection that ends.
func (c *conn) dropAsks() {
	t := c.tenant
	t.asksMu.Lock()
	open := make([]*ask, 0, len(c.calls.asks))
	for _, a := range c.calls.asks {
		open = append(open, a)
	}
	t.asksMu.Unlock()
	for _, a := range open {
		t.giveUp(a)
	}
}

// onAnswer handles the responses to requests of devices here.
func (t *Tenant) onAnswer(m *nats.Msg) {
	t.asksMu.Lock()
	a := t.asks[m.Subject[len(t.base):]]
	if a == nil {
		t.asksMu.Unlock()
		return // timed out or cancelled
	}
	c := a.c
	t.asksMu.Unlock()
	if m.Header.Get("Status") == "503" && len(m.Data) == 0 {
		t.end(a, wire.NewError(wire.DeviceOffline, string(a.to.Device)+" is not connected"))
		return
	}
	if code := wire.Code(m.Header.Get(subjects.HeaderError)); code != "" {
		if !code.Known() {
			code = wire.Internal
		}
		t.end(a, wire.NewError(code, envelope.Value(m.Header, "Nats-Service-Error")))
		return
	}
	partial := m.Header.Get(subjects.HeaderPartial) == "true"
	if partial {
		a.late.Reset(a.timeout)
	} else if !t.end(a, nil) {
		return
	}
	c.respondTo(a, m, partial)
}

// respondTo passes a response, or a part of one, to the device that asked.
func (c *conn) respondTo(a *ask, m *nats.Msg, partial bool) {
	defer c.contain()
	e := wire.Envelope{
		ID: envelope.Value(m.Header, subjects.HeaderID), Type: wire.TypeResponse,
		FromDeviceID: a.to.Device, UserID: c.who.Address.User, ToDeviceID: c.who.Address.Device,
		CorrelationID: a.id, Partial: partial, Priority: wire.Normal,
		Timestamp:   envelope.Value(m.Header, subjects.HeaderTimestamp),
		Traceparent: envelope.Value(m.Header, subjects.HeaderTrace),
	}
	e.Payload, e.Encoding = envelope.Payload(m.Data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.answers++
	if e.ID == "" {
		e.ID = answerID(c.out.answers)
	}
	if e.Timestamp == "" {
		e.Timestamp = wire.FormatTime(time.Now())
	}
	if c.queueLocked(e.Append) == nil { // from an edge of an earlier version, or asked by an earlier connection
		c.tellLocked(wire.NewError(wire.MessageTooLarge, "the response does not fit in maxFrameBytes").For(a.id))
	}
}
