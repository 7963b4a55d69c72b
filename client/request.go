package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of the parts of a response that wait to be read.
const (
	maxParts     = 4096
	maxPartBytes = 8 << 20
)

// ErrTooSlow is how [Client.RequestStream] ends when parts came faster than
// they were read for too long.
var ErrTooSlow = errors.New("client: the parts of a response were not read fast enough")

// Request asks another device of the user, which must be online, and returns
// its result. params becomes JSON by encoding/json, or is a [json.RawMessage];
// nil for none. Of the options, [WithCorrelationID], [WithTraceparent] and [WithID] have
// a meaning here.
//
// The time until ctx's deadline is told to the device; without one the edge
// waits for its own default, some seconds. When ctx ends first the request is
// cancelled. The error is a [*wire.Failure] of the device, a [*wire.Error] of
// the edge such as DEVICE_OFFLINE or TIMEOUT, or wraps [ErrConnectionLost]: a
// request is not asked twice.
func (c *Client) Request(ctx context.Context, device subjects.DeviceID, method string, params any, opts ...SendOption) (json.RawMessage, error) {
	a, err := c.ask(ctx, device, method, params, opts)
	if err != nil {
		return nil, err
	}
	defer a.close()
	for {
		result, last, err := a.next(ctx)
		if err != nil || last {
			return result, err // of a response in parts, the last one
		}
	}
}

// RequestStream is [Client.Request] for a response that comes in parts: each
// is yielded as it comes, in order. A last part that is null only marks the
// end. An error is the last pair. Leaving the loop cancels the request.
func (c *Client) RequestStream(ctx context.Context, device subjects.DeviceID, method string, params any, opts ...SendOption) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		a, err := c.ask(ctx, device, method, params, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		defer a.close()
		for n := 0; ; n++ {
			result, last, err := a.next(ctx)
			if last && n > 0 && string(result) == "null" {
				return
			}
			if !yield(result, err) || last || err != nil {
				return
			}
		}
	}
}

// asked is a request that waits for its response.
type asked struct {
	c     *Client
	o     *outgoing
	ready chan struct{}

	mu    sync.Mutex
	parts [][]byte // payloads of responses
	bytes int
	ended bool // the last of parts is the last one, or there is err
	err   error
}

// ask sends a request.
func (c *Client) ask(ctx context.Context, device subjects.DeviceID, method string, params any, opts []SendOption) (*asked, error) {
	r := wire.Request{Method: method}
	if params != nil {
		raw, err := encodeJSON(params)
		if err != nil {
			return nil, fmt.Errorf("client: params of %s: %w", method, err)
		}
		if !wire.EmbeddableInObject(raw) {
			return nil, wire.NewError(wire.BadMessage, "params must be one JSON value")
		}
		r.Params = raw
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.Timeout = max(time.Until(deadline), time.Millisecond)
	}
	e := wire.Envelope{ID: newID(), Type: wire.TypeRequest, ToDeviceID: device, Payload: r.AppendPayload(nil)}
	for _, o := range opts {
		o.apply(&e)
	}
	o, err := encode(&e)
	if err != nil {
		return nil, err
	}
	a := &asked{c: c, o: o, ready: make(chan struct{}, 1)}
	o.bound, o.done, o.part = true, a.done, a.part
	c.asking.Store(true)
	return a, c.out.add(ctx, o)
}

// next waits for the next part; last says that there is none after it.
func (a *asked) next(ctx context.Context) (result json.RawMessage, last bool, err error) {
	for {
		payload, last, err := a.pop()
		if err != nil {
			return nil, true, err
		}
		if payload != nil {
			return a.result(payload, last)
		}
		select {
		case <-a.ready:
		case <-ctx.Done():
			return nil, true, fmt.Errorf("client: no response to request %s: %w", a.o.id, ctx.Err())
		}
	}
}

func (a *asked) result(payload []byte, last bool) (json.RawMessage, bool, error) {
	r, err := wire.DecodeResponse(payload)
	switch {
	case err != nil:
		return nil, true, fmt.Errorf("client: response to request %s: %w", a.o.id, err)
	case r.Failure != nil:
		return nil, true, r.Failure
	}
	return r.Result, last, nil
}

// pop is the next part; nil when there is none yet.
func (a *asked) pop() (payload []byte, last bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.parts) == 0 {
		return nil, false, a.err
	}
	payload = a.parts[0]
	a.parts[0] = nil
	a.parts = a.parts[1:]
	a.bytes -= len(payload)
	return payload, a.ended && a.err == nil && len(a.parts) == 0, nil
}

// part takes a part that more follow. It is called by the reader.
func (a *asked) part(payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended:
	case len(a.parts) >= maxParts || a.bytes > maxPartBytes:
		a.ended, a.err = true, ErrTooSlow
		signal(a.ready)
	default:
		a.pushLocked(payload)
	}
}

// done takes the last part, or what came in its place.
func (a *asked) done(r reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.ended, a.err = true, r.err
	if r.err == nil {
		a.pushLocked(r.payload)
	}
	signal(a.ready)
}

func (a *asked) pushLocked(payload []byte) {
	a.parts = append(a.parts, payload)
	a.bytes += len(payload)
	signal(a.ready)
}

// close cancels the request unless its response has come.
func (a *asked) close() {
	if awaited, written := a.c.out.forget(a.o); awaited && written {
		a.c.giveUp(a.o.id)
	}
}

// response deals with a response, or a part of one.
func (c *Client) response(e *wire.Envelope) bool {
	o := c.out.awaited(e.CorrelationID)
	switch {
	case o == nil || o.part == nil:
		return c.asking.Load()
	case e.Partial:
		o.part(e.Payload)
	default:
		c.out.answer(e.CorrelationID, reply{payload: e.Payload})
	}
	return true
}

// giveUp tells the edge that nobody waits for the response to a request.
func (c *Client) giveUp(id string) {
	e := cancellation(id)
	if err := c.out.push(&outgoing{id: id, frame: e.Append(nil), bound: true}); err != nil {
		c.opts.Logger.Debug("request not cancelled", "id", id, "err", err)
	}
}
