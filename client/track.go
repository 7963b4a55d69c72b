package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Outcome is what became of a message at one recipient.
type Outcome struct {
	ID     string            // the message's
	Device subjects.DeviceID // the recipient
	Status wire.Status       // delivered, expired, replaced, rejected or undeliverable
	At     time.Time         // when the recipient acknowledged; zero unless delivered
	// Reason says why a message was rejected, expired or undeliverable: the
	// recipient's own words, or one of the Reasons of package wire; "" where
	// there is none.
	Reason string
}

func outcomeOf(a *wire.Answer) Outcome {
	o := Outcome{ID: a.OriginalMessageID, Device: a.DeviceID, Status: a.Status, Reason: a.Reason}
	o.At, _ = time.Parse(time.RFC3339, a.DeliveredAt) // for people: left out when it cannot be read
	return o
}

// Tracked is a message that was accepted, and what becomes of it.
type Tracked struct {
	// Accepted is the edge's answer. Its recipients are empty while a task
	// waits for a device, and for an ephemeral message that reached nobody.
	Accepted Accepted

	// Static.
	c     *Client
	ready chan struct{}
	done  <-chan struct{} // of the client

	mu       sync.Mutex
	outcomes []Outcome // that Next has not returned
	left     int       // outcomes to come, or not returned
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
	t.Accepted.ID = e.ID
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

// Next waits for the next outcome, at one recipient. After those of all recipients it returns io.EOF.
func (t *Tracked) Next(ctx context.Context) (Outcome, error) {
	for {
		if o, ok, err := t.pop(); ok {
			return o, err
		}
		select {
		case <-t.ready:
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		case <-t.done:
			if o, ok, err := t.pop(); ok {
				return o, err
			}
			return Outcome{}, t.c.Err()
		}
	}
}

// pop is what Next returns; ok is false when it has to wait.
func (t *Tracked) pop() (o Outcome, ok bool, err error) {
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
	if a.all[t.Accepted.ID] != nil {
		return false
	}
	a.all[t.Accepted.ID] = t
	return true
}

// remove takes t out. Tracked.mu may be held.
func (a *tracks) remove(t *Tracked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all[t.Accepted.ID] == t {
		delete(a.all, t.Accepted.ID)
	}
}

// tell gives an outcome to whoever tracks the message.
func (a *tracks) tell(o *Outcome) {
	a.mu.Lock()
	t := a.all[o.ID]
	a.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes = append(t.outcomes, *o)
	signal(t.ready)
}
