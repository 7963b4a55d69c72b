package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/rccs-io/rccs/wire"
)

// Tracked is a message that was accepted, and what becomes of it.
type Tracked struct {
	// Accepted is the edge's answer. Its recipients are empty while a task
	// waits for a device, and for an ephemeral message that reached nobody.
	Accepted wire.Accepted

	// Static.
	c     *Client
	ready chan struct{}
	done  <-chan struct{} // of the client

	mu       sync.Mutex
	outcomes []wire.Outcome // that Next has not returned
	left     int            // outcomes to come, or not returned
	closed   bool
}

// Track is [Client.Send] for a sender that wants to know what becomes of the
// message at each recipient. Close it when that is of no interest any more.
// What came while nobody tracked the message goes to Options.OnOutcome alone,
// which hears all outcomes.
func (c *Client) Track(ctx context.Context, e wire.Envelope) (*Tracked, error) {
	if e.ID == "" {
		e.ID = newID()
	}
	t := &Tracked{c: c, ready: make(chan struct{}, 1), done: c.done}
	t.Accepted.OriginalID = e.ID
	if !c.tracks.add(t) { // before the message: an outcome can be as fast as the answer
		return nil, errors.New("client: a message with id " + e.ID + " is tracked already")
	}
	accepted, err := c.Send(ctx, e)
	if err != nil {
		t.Close()
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Accepted = accepted
	switch {
	case e.Ephemeral:
		t.left = 0
	case len(accepted.Recipients) == 0:
		t.left = 1 // whichever device gets the task
	default:
		t.left = len(accepted.Recipients)
	}
	return t, nil
}

// Next waits for the next outcome: delivered, expired or replaced, at one
// recipient. After those of all recipients it returns io.EOF.
func (t *Tracked) Next(ctx context.Context) (wire.Outcome, error) {
	for {
		if o, ok, err := t.pop(); ok {
			return o, err
		}
		select {
		case <-t.ready:
		case <-ctx.Done():
			return wire.Outcome{}, ctx.Err()
		case <-t.done:
			if o, ok, err := t.pop(); ok {
				return o, err
			}
			return wire.Outcome{}, t.c.Err()
		}
	}
}

// pop is what Next returns; ok is false when it has to wait.
func (t *Tracked) pop() (o wire.Outcome, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.outcomes) > 0:
		o = t.outcomes[0]
		t.outcomes = t.outcomes[1:]
		if t.left--; t.left <= 0 {
			t.c.tracks.remove(t)
		}
		signal(t.ready)
		return o, true, nil
	case t.left <= 0 || t.closed:
		signal(t.ready) // for whoever else waits
		t.c.tracks.remove(t)
		return o, true, io.EOF
	}
	return o, false, nil
}

// Close forgets the message.
func (t *Tracked) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.c.tracks.remove(t)
	signal(t.ready)
}

// tracks are the messages of a client that are tracked, by id.
type tracks struct {
	mu  sync.Mutex
	all map[string]*Tracked
}

func (a *tracks) add(t *Tracked) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = make(map[string]*Tracked)
	}
	if a.all[t.Accepted.OriginalID] != nil {
		return false
	}
	a.all[t.Accepted.OriginalID] = t
	return true
}

// remove takes t out. Tracked.mu may be held.
func (a *tracks) remove(t *Tracked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all[t.Accepted.OriginalID] == t {
		delete(a.all, t.Accepted.OriginalID)
	}
}

// tell gives an outcome to whoever tracks the message.
func (a *tracks) tell(o *wire.Outcome) {
	a.mu.Lock()
	t := a.all[o.OriginalID]
	a.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes = append(t.outcomes, *o)
	signal(t.ready)
}
