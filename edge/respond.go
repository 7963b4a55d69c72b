package edge

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// maxServing is how many requests a device may have to answer, and maxServingOf
// how many of one requester. Past maxServing, a requester with none open may
// still make one, until there are twice as many.
const (
	maxServing   = 1024
	maxServingOf = 256
)

// served is a request that a device here was given and has not answered. It is
// guarded by calls.mu.
type served struct {
	id      string // as the device knows it
	asked   string // as the requester knows it
	from    string // the device that asks; "" for a service
	who     string // see requesterOf
	reply   string
	timeout time.Duration
	until   time.Time  // of the next part
	max     int        // the largest frame of the device that asks; 0: not known
	span    trace.Span // nil: it is not recorded
}

// listen subscribes to requests for the device, unless an earlier connection has
// left it its subscription: with a second one it would be asked everything twice.
func (c *conn) listen() error {
	if c.calls.listens() {
		return nil
	}
	sub, err := c.tenant.Core.ChanSubscribe(layout.DeviceRPC(c.key), c.tenant.asked)
	if err != nil {
		return err
	}
	c.calls.listen(sub)
	return c.tenant.flush.wait()
}

// requesterOf returns the name under which a requester takes turns with others:
// the service that NATS names, or the device or HTTP service that an edge or the
// API names. It is no proof of who that is.
func requesterOf(m *nats.Msg) string {
	if service := headers.Requester(m); service != "" {
		return service
	}
	from := envelope.Value(m.Header, subjects.HeaderFrom)
	if key, _, ok := subjects.ParseRPC(m.Subject); ok && !strings.HasPrefix(from, "service:") {
		return key.User() + "." + from // an escaped user has no dot
	}
	return from
}

// queueRequest queues a request until it is its requester's turn. The requests of one
// requester stay in order, so that a cancellation comes after its request.
func (t *Tenant) queueRequest(m *nats.Msg) {
	who := requesterOf(m)
	if release, ok := t.room.TryAcquire(who, int64(m.Size())); ok {
		if t.turns.RunInTurn(who, func() { defer release(); t.onRequest(m, who) }) {
			return
		}
		release()
	}
	if m.Reply == "" || layout.IsClientReply(m.Reply) {
		t.refuse(m.Reply, wire.NewError(wire.Unavailable, "too many requests are waiting at the edge, try again"))
	}
}

// onRequest handles the requests to all devices here.
func (t *Tenant) onRequest(m *nats.Msg, who string) {
	if m.Reply != "" && !layout.IsClientReply(m.Reply) {
		// The edge may publish anywhere, the requester may not. An answer there
		// could become a message in somebody's inbox, or a command to JetStream.
		t.Logger.Warn("request with a foreign reply subject dropped", "subject", m.Subject, "reply", m.Reply)
		return
	}
	key, method, ok := subjects.ParseRPC(m.Subject)
	if !ok || subjects.CheckName("method", method) != nil { // else the requester would wait for an answer that nobody gives
		t.refuse(m.Reply, wire.NewError(wire.BadMessage, "the method in the subject is not escaped, or is no name"))
		return
	}
	c := t.find(key)
	switch id := envelope.Value(m.Header, subjects.HeaderCancel); {
	case c == nil:
		t.refuse(m.Reply, wire.NewError(wire.DeviceOffline, "the device has just gone"))
	case id != "":
		c.cancelServed(id, envelope.Value(m.Header, subjects.HeaderFrom))
	default:
		if t.Examine != nil {
			t.Examine(key, m.Subject, m.Header)
		}
		if err := c.deliverRequest(m, method, who); err != nil {
			t.refuse(m.Reply, err)
		}
	}
}

// serviceTimeout bounds a service's request. NATS keeps the reply path from a
// device's account to the services' open for two minutes, and an answer on its
// way then still has to arrive.
const serviceTimeout = 110 * time.Second

// deliverRequest gives a request to the device.
func (c *conn) deliverRequest(m *nats.Msg, method, who string) *wire.Error {
	defer c.contain()
	r := &served{
		asked: envelope.Value(m.Header, subjects.HeaderID), from: envelope.Value(m.Header, subjects.HeaderFrom),
		who: who, reply: m.Reply, timeout: maxTimeout,
	}
	if r.from == "" {
		r.timeout = serviceTimeout
	}
	if ms, err := strconv.ParseInt(m.Header.Get(subjects.HeaderTimeout), 10, 64); err == nil && ms > 0 {
		r.timeout = time.Duration(min(ms, r.timeout.Milliseconds())) * time.Millisecond
	}
	if n, err := strconv.Atoi(m.Header.Get(layout.HeaderMaxFrame)); err == nil && n > 0 {
		r.max = n
	}
	e := wire.Envelope{
		Type: wire.TypeRequest, FromDeviceID: subjects.DeviceID(r.from), UserID: c.who.Address.User, ToDeviceID: c.who.Address.Device,
		Priority: wire.Normal, Timestamp: envelope.Value(m.Header, subjects.HeaderTimestamp),
	}
	envelope.Carried(&e, m.Header)
	tag := envelope.Value(m.Header, layout.HeaderProof)
	e.FromDeviceID = envelope.SenderOf(subjects.DeviceID(r.from), c.tenant.Proof.Is(tag, proof.Sender, c.key.User(), r.from, r.asked))
	if e.Timestamp == "" {
		e.Timestamp = wire.FormatTime(time.Now())
	}
	params, encoding := envelope.NestedPayload(m.Data)
	e.Encoding = encoding
	e.Payload = (&wire.Request{Method: method, Params: params, Timeout: r.timeout}).AppendPayload(nil)
	if c.s.opts.Tracer != nil {
		e.ID = r.asked
		r.span = c.begin(trace.Answer, trace.Message{From: r.from, To: string(c.who.Address.Device), Method: method}, &e)
	}
	werr := c.writeRequest(&e, r)
	if werr != nil || r.reply == "" {
		endSpan(r.span, trace.CodeOf(werr))
	}
	return werr
}

// writeRequest writes a request to the device, and records that it has to answer.
func (c *conn) writeRequest(e *wire.Envelope, r *served) *wire.Error {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.calls.dropped, !c.sock.Open():
		return wire.NewError(wire.DeviceOffline, "the device has just gone")
	case !c.calls.mayAskLocked(r.who) || c.out.outgoing.size() >= maxOutBytes:
		return wire.NewError(wire.Unavailable, "the device has too many requests to answer")
	}
	r.id = r.asked
	if _, taken := c.calls.serving[r.id]; taken || r.id == "" {
		r.id = "rpc-" + nuid.Next() // ids are unique for their sender only
	}
	e.ID = r.id
	if c.queueLocked(e.Append) == nil {
		return wire.NewError(wire.MessageTooLarge, "the request does not fit in a frame that the device takes")
	}
	if r.reply != "" { // otherwise nobody waits
		c.calls.addLocked(r)
	}
	return nil
}

// servedSlack is how much longer a request is kept than its requester waits.
const servedSlack = 5 * time.Second

// refuse answers a request with an error in the device's place.
func (t *Tenant) refuse(reply string, err *wire.Error) {
	if reply == "" {
		return
	}
	if perr := t.Core.PublishMsg(envelope.Refusal(reply, err)); perr != nil {
		t.Logger.Debug("request not answered", "err", perr)
	}
}

// cancelServed tells the device that its requester gave a request up.
func (c *conn) cancelServed(asked, from string) {
	defer c.contain()
	if id, ok := c.calls.cancelled(asked, from); ok {
		c.answer(wire.TypeAck, wire.AppendCancelPayload(nil, id))
	}
}

// respond passes the device's response, or a part of it, to the requester.
func (c *conn) respond(e *wire.Envelope) error {
	r, ok := c.calls.answered(e.CorrelationID, e.Partial, func(r *served) bool {
		if e.Traceparent == "" && r.span != nil {
			e.Traceparent = r.span.Place()
		}
		return r.fits(e, c.who.Address)
	})
	if !ok {
		return wire.NewError(wire.MessageTooLarge, "the response does not fit in a frame that the requester takes: answer with less, or in parts")
	}
	if r == nil {
		return wire.NewError(wire.BadMessage, "no request with this correlationId waits for a response: it was answered, cancelled, or has timed out")
	}
	m, err := envelope.Response(e, c.sender(), r.reply, r.from != "")
	if err != nil {
		c.calls.restore(r)
		return err
	}
	err = c.tenant.Core.PublishMsg(m)
	if !e.Partial {
		r.end(err)
	}
	if err != nil {
		return wire.NewError(wire.Unavailable, "")
	}
	if e.RequiresAck {
		accepted := wire.Accepted{OriginalID: e.ID}
		if r.from != "" {
			accepted.Recipients = []wire.Recipient{{DeviceID: subjects.DeviceID(r.from)}}
		}
		c.answer(wire.TypeAck, accepted.AppendPayload(nil))
	}
	return nil
}

// end ends the record of a request that the device has answered.
func (r *served) end(err error) {
	code := wire.Code("")
	if err != nil {
		code = wire.Unavailable
	}
	endSpan(r.span, code)
}

// fits reports whether a device's response can be written to the requester.
func (r *served) fits(e *wire.Envelope, from subjects.Address) bool {
	if r.max == 0 || r.from == "" || len(e.Payload)+headerRoom+maxEscape*maxNames <= r.max {
		return true
	}
	answer := wire.Envelope{
		ID: e.ID, Type: wire.TypeResponse, FromDeviceID: from.Device, UserID: from.User, ToDeviceID: subjects.DeviceID(r.from),
		CorrelationID: r.asked, Partial: e.Partial, Priority: wire.Normal, Timestamp: e.Timestamp, Traceparent: e.Traceparent, Payload: e.Payload,
	}
	if answer.ID == "" {
		answer.ID = answerID(math.MaxUint64)
	}
	if answer.Timestamp == "" {
		answer.Timestamp = wire.FormatTime(time.Now())
	}
	return len(answer.Append(nil)) <= r.max
}

// maxNames bounds the bytes of the names and ids of a response.
const maxNames = 6 * 128

// dropServing tells all requesters that wait for this device that it is gone.
func (c *conn) dropServing() {
	for _, r := range c.calls.drop() {
		endSpan(r.span, wire.DeviceOffline)
		c.tenant.refuse(r.reply, wire.NewError(wire.DeviceOffline, string(c.who.Address.Device)+" went offline before it had answered"))
	}
}
