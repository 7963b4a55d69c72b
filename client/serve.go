package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Codes of the failures that the client itself answers a request with.
const (
	// NoSuchMethod says that the device handles other methods only.
	NoSuchMethod = "METHOD_NOT_FOUND"
	// Busy says that the device handles too many requests already.
	Busy = "BUSY"
	// Failed is what a handler's error becomes that has no code of its own.
	Failed = "INTERNAL"
)

// maxServed is how many requests are handled at a time.
const maxServed = 256

// A RequestHandler answers a request with a result, which becomes JSON by
// encoding/json or is a [json.RawMessage], or with an error. The requester gets
// a [*wire.Failure] as it is, the code and the text of a [*wire.Error], and the
// text of any other error: mind what is in it.
//
// ctx ends when the requester has cancelled or gone, when it has waited for
// the next part as long as it said, and when the connection is lost.
type RequestHandler func(ctx context.Context, r *Request) (any, error)

// Request is a request to this device.
type Request struct {
	ID     string
	From   subjects.DeviceID // or service:NAME
	Method string
	Params json.RawMessage // nil when absent
	// Encoding is [wire.EncodingBase64] when a service asked with bytes that are
	// not JSON: Params is then a string of them.
	Encoding string
	// Timeout is how long the requester waits for the response, or for the
	// next part of it; 0 when it did not say.
	Timeout       time.Duration
	CorrelationID string
	Traceparent   string

	// Static.
	c      *Client
	no     string
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil without a timeout

	mu    sync.Mutex // held while a part is sent, so that they stay in order
	parts atomic.Int64
}

// Decode reads the params into v, as encoding/json does. Absent params leave v
// as it is. The error is a failure with code BAD_MESSAGE, to be returned.
func (r *Request) Decode(v any) error {
	if r.Params == nil {
		return nil
	}
	if err := json.Unmarshal(r.Params, v); err != nil {
		return &wire.Failure{Code: string(wire.BadMessage), Message: "params: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	return nil
}

// Part sends a part of the response ahead of the result that the handler
// returns, which ends it; return nil when all has been said. It blocks while
// too much waits to be written, and fails when the request has ended.
func (r *Request) Part(v any) error {
	raw, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("client: part of a response: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if r.timer != nil {
		r.timer.Reset(r.Timeout)
	}
	r.parts.Add(1)
	return r.c.respond(r.ctx, r, wire.Response{Result: raw}, true)
}

// requests are the handlers of a client, and what they handle now.
type requests struct {
	running sync.WaitGroup

	mu       sync.Mutex
	handlers map[string]RequestHandler
	byID     map[string]*Request
	byNo     map[string]*Request // see responseID
	last     uint64
	closed   bool
}

// HandleRequest has handler answer the requests with this method; "" is for
// every method that has none. Each request has a goroutine of its own, up to
// 256 at a time. Requests are not handed out by [Client.Receive] any more.
func (c *Client) HandleRequest(method string, handler RequestHandler) {
	q := &c.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handlers == nil {
		q.handlers = make(map[string]RequestHandler)
		q.byID, q.byNo = make(map[string]*Request), make(map[string]*Request)
	}
	q.handlers[method] = handler
}

// serveRequest starts the handler of a request; false when there is no handler
// at all.
func (c *Client) serveRequest(e *wire.Envelope) bool {
	q := &c.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.handlers) == 0 {
		return false
	}
	if q.closed {
		return true
	}
	asked, err := wire.DecodeRequest(e.Payload)
	r := c.newRequestLocked(e, &asked)
	handler := q.handlers[r.Method]
	if handler == nil {
		handler = q.handlers[""]
	}
	var failure *wire.Failure
	switch {
	case err != nil:
		failure = failureOf(err)
	case handler == nil:
		failure = &wire.Failure{Code: NoSuchMethod, Message: "this device has no method " + r.Method}
	case len(q.byID) >= maxServed || q.byID[r.ID] != nil:
		failure = &wire.Failure{Code: Busy, Message: "this device handles too many requests"}
	}
	if failure != nil {
		r.cancel(nil)
		c.refuse(r, failure)
		return true
	}
	q.byID[r.ID], q.byNo[r.no] = r, r
	if r.Timeout > 0 {
		r.timer = time.AfterFunc(r.Timeout, func() { r.cancel(context.DeadlineExceeded) })
	}
	q.running.Go(func() { c.runRequest(r, handler) })
	return true
}

func (c *Client) newRequestLocked(e *wire.Envelope, asked *wire.Request) *Request {
	c.requests.last++
	r := &Request{
		ID: e.ID, From: e.FromDeviceID, Method: asked.Method, Params: asked.Params, Timeout: asked.Timeout,
		Encoding:      e.Encoding,
		CorrelationID: e.CorrelationID, Traceparent: e.Traceparent,
		c: c, no: strconv.FormatUint(c.requests.last, 36),
	}
	r.ctx, r.cancel = context.WithCancelCause(c.ctx)
	return r
}

// runRequest is the goroutine of a request.
func (c *Client) runRequest(r *Request, handler RequestHandler) {
	result, err := handler(r.ctx, r)
	response := wire.Response{}
	if err == nil {
		response.Result, err = encodeJSON(result)
	}
	if err != nil {
		response = wire.Response{Failure: failureOf(err)}
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	q := &c.requests
	q.mu.Lock()
	delete(q.byID, r.ID)
	delete(q.byNo, r.no)
	q.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.cancel(nil) // before the lock is free: no part comes after the end
	if r.ctx.Err() != nil {
		return
	}
	if err := c.respond(r.ctx, r, response, false); err != nil && r.ctx.Err() == nil {
		c.opts.Logger.Warn("response not sent", "method", r.Method, "err", err)
		c.refuse(r, failureOf(err))
	}
}

// failureOf is what a requester hears of an error.
func failureOf(err error) *wire.Failure {
	if f, ok := errors.AsType[*wire.Failure](err); ok {
		return f
	}
	if told, ok := errors.AsType[*wire.Error](err); ok {
		return &wire.Failure{Code: string(told.Code), Message: told.Text()}
	}
	return &wire.Failure{Code: Failed, Message: err.Error()}
}

// refuse answers a request with a failure, from where nothing may wait.
func (c *Client) refuse(r *Request, f *wire.Failure) {
	o, err := r.response(wire.Response{Failure: f}, false)
	if err == nil {
		err = c.out.push(o)
	}
	if err != nil {
		c.opts.Logger.Debug("request not refused", "method", r.Method, "err", err)
	}
}

// respond sends a response or a part of one, waiting for room.
func (c *Client) respond(ctx context.Context, r *Request, w wire.Response, partial bool) error {
	o, err := r.response(w, partial)
	if err != nil {
		return err
	}
	return c.out.add(ctx, o)
}

func (r *Request) response(w wire.Response, partial bool) (*outgoing, error) {
	if w.Failure == nil && !wire.EmbeddableInObject(w.Result) {
		return nil, wire.NewError(wire.BadMessage, "the result must be one JSON value")
	}
	e := wire.Envelope{
		ID: responseID + r.no + "." + strconv.FormatInt(r.parts.Load(), 36), Type: wire.TypeResponse,
		CorrelationID: r.ID, Partial: partial, Payload: w.AppendPayload(nil),
	}
	o, err := encode(&e)
	if err == nil {
		o.bound = true
	}
	return o, err
}

// responseID begins the id of every response, so that an error about one is
// known to be of no interest but to its handler.
const responseID = "response."

// unwanted hears that the edge took no response of this id; false when it is
// the id of something else.
func (q *requests) unwanted(id string, told error) bool {
	rest, ok := strings.CutPrefix(id, responseID)
	if !ok {
		return false
	}
	no, _, _ := strings.Cut(rest, ".")
	q.mu.Lock()
	r := q.byNo[no]
	q.mu.Unlock()
	if r != nil {
		r.cancel(told)
	}
	return true
}

// cancelled ends the handler of a request that its requester gave up.
func (q *requests) cancelled(id string) {
	q.mu.Lock()
	r := q.byID[id]
	q.mu.Unlock()
	if r != nil {
		r.cancel(context.Canceled)
	}
}

// disconnected ends all handlers. It returns what they handled.
func (q *requests) disconnected(why error) []*Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var lost []*Request
	for _, r := range q.byID {
		if r.ctx.Err() == nil {
			lost = append(lost, r)
		}
		r.cancel(why)
	}
	return lost
}

// close takes no more requests, and waits until the handlers have ended, but
// not for long for one that ignores its context.
func (q *requests) close(within time.Duration) (ended bool) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.running.Wait()
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
