package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/wire"
)

// Bounds of what all clients may have under way. One requester, which is a service
// or the operators, takes half of each at most, and what waits takes turns.
const (
	workers    = 64
	backlog    = 4096      // requests that wait for their turn
	bodyBytes  = 512 << 20 // of bodies that are read or wait
	maxStreams = 1024      // of events
	maxAsks    = 2048      // requests that wait for a device
	bodyStep   = 256 << 10 // of a body that does not say how large it is
)

// bounds keep one requester from taking what others need.
type bounds struct {
	turns   *pool.Pool
	bodies  *pool.Places
	streams *pool.Places
	asks    *pool.Places
}

func newBounds() bounds {
	half := func(n int64) *pool.Places { return pool.NewPlaces(n, n/2) }
	return bounds{turns: pool.New(workers, backlog), bodies: half(bodyBytes), streams: half(maxStreams), asks: half(maxAsks)}
}

// requester names the client that takes turns with others. Operators, and clients
// that have shown nothing, are told apart by their address.
func (c *call) requester() string {
	if c.principal != nil && !c.operator {
		return c.service.Tenant + " " + c.who() // no name of a tenant has a space
	}
	return "at " + remoteHost(c.r)
}

// inTurn calls f when it is the requester's turn. It is not for what waits for a
// device, or goes on for as long as a client listens.
func (a *API) inTurn(ctx context.Context, c *call, f func()) error {
	turn, done := make(chan struct{}), make(chan struct{})
	if !a.bounds.turns.RunInTurn(c.requester(), func() {
		select {
		case turn <- struct{}{}:
			<-done
		case <-ctx.Done():
		}
	}) {
		return tooMany("too many requests of yours are waiting")
	}
	select {
	case <-turn:
		defer close(done)
		f()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeBody takes the room for a request's body until release. One that does not say
// how large it is, is read here: its room is taken as it comes.
func (a *API) takeBody(c *call) (release func(), p *Problem) {
	if c.r.ContentLength < 0 {
		return a.readBody(c)
	}
	return a.takeRoom(c, c.r.ContentLength)
}

func (a *API) takeRoom(c *call, size int64) (release func(), p *Problem) {
	if size == 0 {
		return func() {}, nil
	}
	release, ok := a.bounds.bodies.TryAcquire(c.requester(), size)
	if !ok {
		return nil, tooMany("the bodies of your requests that are under way are too large together")
	}
	return release, nil
}

func (a *API) readBody(c *call) (release func(), p *Problem) {
	var body bytes.Buffer
	var taken []func()
	giveBack := func() {
		for _, one := range taken {
			one()
		}
	}
	defer func() {
		if p != nil {
			giveBack()
		}
	}()
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	for {
		room, full := a.takeRoom(c, bodyStep)
		if full != nil {
			return nil, full
		}
		taken = append(taken, room)
		switch _, err := io.CopyN(&body, c.r.Body, bodyStep); {
		case body.Len() > maxBody:
			return nil, problem(http.StatusRequestEntityTooLarge, string(wire.MessageTooLarge), "the body is larger than 32 MiB")
		case errors.Is(err, io.EOF):
			c.r.Body, c.r.ContentLength = io.NopCloser(&body), int64(body.Len())
			return giveBack, nil
		case err != nil:
			return nil, badRequest("the body did not come")
		}
	}
}

// tooMany is the problem of a client that has more under way than its part.
func tooMany(detail string) *Problem {
	p := problem(http.StatusTooManyRequests, string(wire.RateLimited), detail+": wait for answers, then try again")
	p.RetryAfterMs = 1000
	return p
}
