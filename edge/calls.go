package edge

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/wire"
)

// calls are the open requests that a device has made and that it has to answer.
type calls struct {
	asks map[string]*ask // of the device, by id; guarded by Tenant.asksMu

	// mu guards what follows. It may be held when conn.mu is taken, not the
	// other way round.
	mu       sync.Mutex
	requests *nats.Subscription // what others ask the device
	serving  map[string]*served // what it has to answer, by the id that it knows
	dropped  bool               // it is given no more: nobody would end them
}

// inherit takes over the requests that an earlier connection of the device has to
// answer, and the subscription that brings further ones.
func (c *calls) inherit(old *calls) {
	old.mu.Lock()
	serving, requests := old.serving, old.requests
	old.serving, old.requests = nil, nil
	old.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving, c.requests = serving, requests
}

// listens reports whether requests for the device are subscribed to.
func (c *calls) listens() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests != nil
}

// listen takes the subscription that brings the device's requests.
func (c *calls) listen(sub *nats.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped {
		_ = sub.Unsubscribe()
		return
	}
	c.requests = sub
}

// mayAskLocked reports whether the device may be given another request of the
// requester who.
func (c *calls) mayAskLocked(who string) bool {
	if len(c.serving) < maxServingOf {
		return true
	}
	of := 0
	for _, r := range c.serving {
		if r.who == who {
			of++
		}
	}
	if of == 0 {
		return len(c.serving) < 2*maxServing
	}
	return of < maxServingOf && len(c.serving) < maxServing
}

// addLocked records a request that the device was given.
func (c *calls) addLocked(r *served) {
	if c.serving == nil {
		c.serving = make(map[string]*served)
	}
	r.until = time.Now().Add(r.timeout + servedSlack)
	c.serving[r.id] = r
}

// answered finds the request that a response is for, and ends it with the last
// part. If check refuses the response, the request stays and ok is false.
func (c *calls) answered(id string, partial bool, check func(*served) bool) (r *served, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r = c.serving[id]; {
	case r == nil:
	case !check(r):
		return r, false
	case partial:
		r.until = time.Now().Add(r.timeout + servedSlack)
	default:
		delete(c.serving, id)
	}
	return r, true
}

// restore records a request again: the device may still answer it correctly.
func (c *calls) restore(r *served) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.serving[r.id]; !taken && c.serving != nil {
		c.serving[r.id] = r
	}
}

// cancelled ends the request that its requester gives up, and returns the id that
// the device knows.
func (c *calls) cancelled(asked, from string) (id string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.serving {
		if r.asked == asked && r.from == from {
			delete(c.serving, id)
			endSpan(r.span, trace.Cancelled)
			return id, true
		}
	}
	return "", false
}

// drop ends all requests, and returns those that the device has not answered.
func (c *calls) drop() map[string]*served {
	c.mu.Lock()
	sub, open := c.requests, c.serving
	c.requests, c.serving, c.dropped = nil, nil, true
	c.mu.Unlock()
	if sub != nil {
		_ = sub.Drain() // a request that is on its way gets an answer
	}
	return open
}

// forgetLate drops requests that nobody waits for any more.
func (c *calls) forgetLate(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.serving {
		if now.After(r.until) {
			endSpan(r.span, wire.Timeout)
			delete(c.serving, id)
		}
	}
}
