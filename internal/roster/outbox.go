package roster

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
)

// outbox passes messages to Put, in order, from one goroutine, so that a slow
// store delays no caller of send. The number of devices bounds what waits here: a
// device has at most one write of its session and one of its record under way,
// and few events.
type outbox struct {
	put  func(*nats.Msg, func(uint64, error))
	wake wake.Signal

	mu     sync.Mutex
	queue  []letter
	closed bool
	open   int           // letters whose done was not called
	idle   chan struct{} // closed when open becomes 0; nil unless waited for
}

type letter struct {
	msg  *nats.Msg
	done func(uint64, error)
}

func newOutbox(put func(*nats.Msg, func(uint64, error))) *outbox {
	return &outbox{put: put, wake: wake.New()}
}

// send queues a message. done is called once, from another goroutine.
func (o *outbox) send(msg *nats.Msg, done func(seq uint64, err error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		go done(0, ErrStopped)
		return
	}
	o.open++
	o.queue = append(o.queue, letter{msg, func(seq uint64, err error) {
		done(seq, err)
		o.finish()
	}})
	o.wake.Set()
}

func (o *outbox) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open--; o.open == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

// run passes messages to Put. It ends when the outbox is closed and empty.
func (o *outbox) run() {
	for {
		o.mu.Lock()
		queue, closed := o.queue, o.closed
		o.queue = nil
		o.mu.Unlock()
		for _, l := range queue {
			o.put(l.msg, l.done)
		}
		switch {
		case len(queue) > 0:
		case closed:
			return
		default:
			<-o.wake
		}
	}
}

// flush returns when everything that was sent has been answered, or ctx ends.
func (o *outbox) flush(ctx context.Context) error {
	o.mu.Lock()
	open := o.open
	if open > 0 && o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	if open == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("roster: not all is stored: %w", ctx.Err())
	}
}

// close ends run when the queue is empty.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake.Set()
}

// event is the body of an event, for services.
type event struct {
	Kind    string             `json:"kind"`
	User    subjects.UserID    `json:"user"`
	Device  subjects.DeviceID  `json:"device"`
	At      string             `json:"at"`
	Edge    string             `json:"edge,omitempty"`
	Session subjects.SessionID `json:"session,omitempty"`
}

// eventTries bounds how often an event is sent that is not stored. All attempts
// are within the dedup window.
const eventTries = 5

// tellServices stores an event about a device, in the order of the calls. The
// store keeps one event of a kind with the same id, however often it is sent.
func (r *Roster) tellServices(k subjects.Key, e event, at time.Time, id string) {
	a, err := k.Address()
	if err != nil {
		return
	}
	e.User, e.Device, e.At = a.User, a.Device, at.UTC().Format(time.RFC3339Nano)
	body, err := json.Marshal(&e)
	if err != nil {
		r.opts.Logger.Error("event not encoded", "kind", e.Kind, "device", string(k), "err", err)
		return
	}
	r.sendEvent(&nats.Msg{
		Subject: subjects.Event(k, e.Kind), Data: body, Header: nats.Header{nats.MsgIdHdr: {"event/" + id + "/" + e.Kind}},
	}, eventTries)
}

func (r *Roster) sendEvent(m *nats.Msg, tries int) {
	r.out.send(m, func(_ uint64, err error) {
		if err == nil {
			return
		}
		r.opts.Logger.Warn("event not stored", "subject", m.Subject, "err", err)
		if tries > 1 && !r.stopped.Load() {
			// Send a copy: the failed message may still be on its way.
			again := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: m.Header}
			time.AfterFunc(putAgain, func() { r.sendEvent(again, tries-1) })
		}
	})
}
