package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

// respond sends a response to the client's request.
func (p *peer) respond(id, payload string, partial bool) {
	e := wire.Envelope{ID: "r", Type: wire.TypeResponse, FromDeviceID: "desk", CorrelationID: id, Partial: partial, Payload: []byte(payload)}
	p.send(string(e.Append(nil)))
}

// wantCancel reads the cancellation of a request.
func (p *peer) wantCancel(id string) {
	p.wantCancelIn(p.want(wire.TypeAck), id)
}

func (p *peer) wantCancelIn(e wire.Envelope, id string) {
	a, err := wire.DecodeAck(nil, e.Payload)
	if err != nil || a.Cancel != id {
		p.t.Errorf("peer %d got %+v, %v, want the cancellation of %s", p.n, a, err, id)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		e := p.want(wire.TypeRequest)
		r, err := wire.DecodeRequest(e.Payload)
		if err != nil || e.ToDeviceID != "desk" || r.Method != "open" || string(r.Params) != `{"file":"x"}` ||
			r.Timeout <= 0 || r.Timeout > patience || e.CorrelationID != "c" {
			t.Errorf("asked %+v, %+v, %v", e, r, err)
		}
		p.respond("someone else", `{"result":0}`, false)
		p.respond(e.ID, `{"result":{"ok": [1, 2.50]}}`, false)
		p.respond(p.want(wire.TypeRequest).ID, `{"error":{"code":"NO","message":"not today"}}`, false)
		p.refuse(p.want(wire.TypeRequest), wire.DeviceOffline)
		e = p.want(wire.TypeRequest)
		p.respond(e.ID, `{"result":1}`, true)
		p.respond(e.ID, `{"result":2}`, false)
		p.respond(p.want(wire.TypeRequest).ID, `{"bad":1}`, false)
		p.wantCancel(p.want(wire.TypeRequest).ID)
		close(cancelled)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	result, err := c.Request(testkit.Soon(t), "desk", "open", map[string]string{"file": "x"}, client.WithCorrelationID("c"))
	if err != nil || string(result) != `{"ok": [1, 2.50]}` {
		t.Errorf("result %s, %v", result, err)
	}
	var failure *wire.Failure
	if _, err = c.Request(testkit.Soon(t), "desk", "open", nil); !errors.As(err, &failure) || failure.Code != "NO" || failure.Message != "not today" {
		t.Errorf("failed with %v", err)
	}
	if _, err = c.Request(testkit.Soon(t), "away", "open", nil); !errors.Is(err, wire.DeviceOffline) {
		t.Errorf("offline is %v", err)
	}
	if result, err = c.Request(testkit.Soon(t), "desk", "parts", nil); err != nil || string(result) != "2" {
		t.Errorf("the last part is %s, %v", result, err)
	}
	if _, err = c.Request(testkit.Soon(t), "desk", "bad", nil); !errors.Is(err, wire.BadMessage) {
		t.Errorf("a bad response is %v", err)
	}
	for within := 30 * time.Millisecond; within < patience; within *= 2 { // on a busy machine it ends before the request is written
		ctx, cancel := context.WithTimeout(t.Context(), within)
		if _, err = c.Request(ctx, "desk", "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no response is %v", err)
		}
		cancel()
		select {
		case <-cancelled:
		case <-time.After(within):
			continue
		}
		break
	}
	for _, params := range []any{func() {}, json.RawMessage(`{`)} {
		if _, err = c.Request(testkit.Soon(t), "desk", "open", params); err == nil {
			t.Errorf("asked with params %v", params)
		}
	}
}

func TestRequestStreamYieldsPartsInOrder(t *testing.T) {
	t.Parallel()
	const count = 500
	url := serve(t, func(p *peer) {
		p.registered()
		for _, last := range []string{`{"result":"last"}`, `{"result":null}`, `{"error":{"code":"E","message":"m"}}`} {
			e := p.want(wire.TypeRequest)
			for n := range count {
				p.respond(e.ID, fmt.Sprintf(`{"result":%d}`, n), true)
			}
			p.respond(e.ID, last, false)
		}
		e := p.want(wire.TypeRequest)
		p.respond(e.ID, `{"result":0}`, true)
		p.wantCancel(e.ID)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	for _, want := range []string{`"last"`, "", "error"} {
		n := 0
		last := ""
		for part, err := range c.RequestStream(testkit.Soon(t), "desk", "log", nil) {
			switch {
			case err != nil:
				last = "error"
				if failure, ok := errors.AsType[*wire.Failure](err); !ok || failure.Code != "E" {
					t.Errorf("ended with %v", err)
				}
			case n < count:
				if string(part) != fmt.Sprint(n) {
					t.Fatalf("part %d is %s", n, part)
				}
				n++
			default:
				last = string(part)
			}
		}
		if n != count || last != want {
			t.Errorf("%d parts, then %q, want %q", n, last, want)
		}
	}
	for _, err := range c.RequestStream(testkit.Soon(t), "desk", "log", nil) {
		if err != nil {
			t.Error(err)
		}
		break // cancels
	}
}

func TestRequestEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		if p.n == 0 {
			p.want(wire.TypeRequest)
			return
		}
		for range 2 {
			switch e, _ := p.next(); e.Type {
			case wire.TypeRequest:
				p.respond(e.ID, `{"result":1}`, false)
			case wire.TypeAck:
				p.wantCancelIn(e, "q") // in case that the edge has kept it
			default:
				t.Errorf("got %+v", e)
			}
		}
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if _, err := c.Request(testkit.Soon(t), "desk", "open", nil, client.WithID("q")); !errors.Is(err, client.ErrConnectionLost) {
		t.Errorf("ended with %v", err)
	}
	if result, err := c.Request(testkit.Soon(t), "desk", "open", nil); err != nil || string(result) != "1" {
		t.Errorf("the next one: %s, %v", result, err)
	}
}

// ask sends a request to the client.
func (p *peer) ask(id, method, params string, timeout time.Duration) {
	r := wire.Request{Method: method, Params: []byte(params), Timeout: timeout}
	e := wire.Envelope{ID: id, Type: wire.TypeRequest, FromDeviceID: "desk", Payload: r.AppendPayload(nil)}
	p.send(string(e.Append(nil)))
}

// wantResponse reads a response of the client.
func (p *peer) wantResponse(id, payload string, partial bool) {
	p.t.Helper()
	e := p.want(wire.TypeResponse)
	if e.CorrelationID != id || string(e.Payload) != payload || e.Partial != partial {
		p.t.Errorf("peer %d got the response %s to %s (partial %v), want %s to %s", p.n, e.Payload, e.CorrelationID, e.Partial, payload, id)
	}
}

func TestHandleRequest(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		p.ask("1", "add", `{"a":1,"b":2}`, 0)
		p.wantResponse("1", `{"result":3}`, false)
		p.ask("2", "add", `[]`, 0)
		if e := p.want(wire.TypeResponse); !strings.Contains(string(e.Payload), `"BAD_MESSAGE"`) {
			t.Errorf("bad params are answered with %s", e.Payload)
		}
		p.ask("3", "none", `1`, 0)
		p.wantResponse("3", `{"error":{"code":"METHOD_NOT_FOUND","message":"this device has no method none"}}`, false)
		p.ask("4", "fail", `1`, 0)
		p.wantResponse("4", `{"error":{"code":"INTERNAL","message":"no luck"}}`, false)
		p.ask("5", "raw", `1`, 0)
		p.wantResponse("5", `{"result":{ "as": "it is" }}`, false)
		p.ask("6", "count", `1`, 0)
		for n := range 300 {
			p.wantResponse("6", fmt.Sprintf(`{"result":%d}`, n), true)
		}
		p.wantResponse("6", `{"result":null}`, false)
		p.ask("7", "unencodable", `1`, 0)
		if e := p.want(wire.TypeResponse); !strings.Contains(string(e.Payload), `"INTERNAL"`) {
			t.Errorf("a result that is not JSON is answered with %s", e.Payload)
		}
		close(done)
		p.drain()
	})
	dial(t, url, client.Options{Requests: map[string]client.RequestHandler{
		"add": func(_ context.Context, r *client.Request) (any, error) {
			var v struct{ A, B int }
			if err := r.Decode(&v); err != nil {
				return nil, err
			}
			if r.From != "desk" || r.ID == "" {
				t.Errorf("asked by %+v", r)
			}
			return v.A + v.B, nil
		},
		"fail":        func(context.Context, *client.Request) (any, error) { return nil, errors.New("no luck") },
		"raw":         func(context.Context, *client.Request) (any, error) { return json.RawMessage(`{ "as": "it is" }`), nil },
		"unencodable": func(context.Context, *client.Request) (any, error) { return func() {}, nil },
		"count": func(_ context.Context, r *client.Request) (any, error) {
			for n := range 300 {
				if err := r.Part(n); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
	}})
	testkit.Await(t, "the script", done)
}

func TestHandlerEndsWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	started, ended, three := make(chan string, 8), make(chan error, 8), make(chan struct{})
	fifth := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		if p.n > 0 {
			// In case that the edge has kept it for this connection.
			if e := p.want(wire.TypeResponse); e.CorrelationID != "4" || !strings.Contains(string(e.Payload), `"UNAVAILABLE"`) {
				t.Errorf("what was lost is answered with %s to %s", e.Payload, e.CorrelationID)
			}
			p.ask("5", "wait", `1`, 0)
			testkit.Await(t, "the fifth", started)
			close(fifth)
			p.drain()
			return
		}
		p.ask("1", "wait", `1`, 0)
		testkit.Await(t, "the first", started)
		p.send(string(wire.AppendCancel(nil, "1")))
		p.ask("2", "wait", `1`, 20*time.Millisecond)
		testkit.Await(t, "the second", started)
		p.ask("3", "talk", `1`, 0)
		e := p.want(wire.TypeResponse)
		p.refuse(e, wire.BadMessage) // the edge knows of no such request any more
		testkit.Await(t, "the end of the first three", three)
		p.ask("4", "wait", `1`, 0)
		testkit.Await(t, "the fourth", started)
	})
	c := dial(t, url, client.Options{Requests: map[string]client.RequestHandler{
		"wait": func(ctx context.Context, r *client.Request) (any, error) {
			started <- r.ID
			<-ctx.Done()
			ended <- fmt.Errorf("%s: %w", r.ID, context.Cause(ctx))
			return nil, ctx.Err()
		},
		"talk": func(ctx context.Context, r *client.Request) (any, error) {
			for r.Part("still here") == nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
			ended <- fmt.Errorf("%s: %w", r.ID, context.Cause(ctx))
			return nil, ctx.Err()
		},
	}})
	got := map[string]error{}
	for n := range 4 {
		if n == 3 {
			close(three)
		}
		err := testkit.Await(t, "the end of a handler", ended)
		id, _, _ := strings.Cut(err.Error(), ":")
		got[id] = err
	}
	for id, cause := range map[string]error{
		"1": context.Canceled, "2": context.DeadlineExceeded, "3": wire.BadMessage, "4": client.ErrConnectionLost,
	} {
		if !errors.Is(got[id], cause) {
			t.Errorf("handler %s ended because of %v, want %v", id, got[id], cause)
		}
	}
	testkit.Await(t, "the fifth", fifth)
	_ = c.Close()
	if err := testkit.Await(t, "the end of the fifth", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Close ended a handler with %v", err)
	}
}

func TestRequestsAreReceivedWithoutHandlers(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		p.ask("1", "m", `1`, 0)
		p.respond("2", `{"result":1}`, false)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	for _, want := range []string{wire.TypeRequest, wire.TypeResponse} {
		if m, err := c.Receive(testkit.Soon(t)); err != nil || m.Type != want {
			t.Fatalf("received %+v, %v; want %s", m, err, want)
		}
	}
}

func TestPartsThatAreNotReadAreNotKeptForEver(t *testing.T) {
	t.Parallel()
	const count = 5000
	sent := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		e := p.want(wire.TypeRequest)
		for n := range count {
			p.respond(e.ID, fmt.Sprintf(`{"result":%d}`, n), true)
		}
		p.send(note(1))
		p.acks(1) // the client has read all of that
		close(sent)
		p.wantCancel(e.ID)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	n := 0
	for part, err := range c.RequestStream(testkit.Soon(t), "desk", "flood", nil) {
		if err != nil {
			if !errors.Is(err, client.ErrTooSlow) || n == count {
				t.Errorf("after %d parts: %v", n, err)
			}
			break
		}
		if n == 0 {
			receive(t, c, 1).Ack()
			testkit.Await(t, "all parts", sent)
		}
		if string(part) != fmt.Sprint(n) {
			t.Fatalf("part %d is %s", n, part)
		}
		n++
	}
}

func TestRequestsAreHandledUpToABound(t *testing.T) {
	t.Parallel()
	const bound = 256
	done := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		for n := range bound + 1 {
			p.ask(fmt.Sprint(n), "wait", `1`, 0)
		}
		p.wantResponse(fmt.Sprint(bound), `{"error":{"code":"BUSY","message":"this device handles too many requests"}}`, false)
		for n := range bound {
			p.send(string(wire.AppendCancel(nil, fmt.Sprint(n))))
		}
		close(done)
		p.drain()
	})
	ended := make(chan error, bound)
	dial(t, url, client.Options{Requests: map[string]client.RequestHandler{
		"wait": func(ctx context.Context, _ *client.Request) (any, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
	}})
	testkit.Await(t, "the script", done)
	for range bound {
		if err := testkit.Await(t, "the end of a handler", ended); err == nil {
			t.Error("a handler ended without a reason")
		}
	}
}
