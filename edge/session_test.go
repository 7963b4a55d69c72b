package edge

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/wire"
)

func TestPhaseOnlyRises(t *testing.T) {
	t.Parallel()
	all := []phase{unregistered, attaching, attached, draining, detaching}
	for _, from := range all {
		for _, to := range all {
			s := session{phase: from}
			if s.advance(to); s.phase != max(from, to) {
				t.Errorf("from %d to %d is %d", from, to, s.phase)
			}
		}
	}
}

func TestDrainingEndsWhenAllIsStored(t *testing.T) {
	t.Parallel()
	s := session{phase: attached, inflight: 2, mailbox: new(inbox.Mailbox)}
	if s.drained() || s.acceptsAcks() {
		t.Error("drained before it drains")
	}
	s.beginDrain(wire.CloseGoingAway, time.Second)
	for s.inflight > 0 {
		if s.drained() || !s.acceptsAcks() {
			t.Errorf("with %d in flight: drained %t, accepts acks %t", s.inflight, s.drained(), s.acceptsAcks())
		}
		s.inflight--
	}
	if !s.drained() || s.drain != (drainEnd{wire.CloseGoingAway, time.Second}) {
		t.Errorf("then drained is %t, to end with %+v", s.drained(), s.drain)
	}
	if s.advance(detaching); !s.acceptsAcks() {
		t.Error("acknowledgements on their way are lost by detaching")
	}
}

// A lost peer is no draining: what is stored later ends nothing.
func TestDetachingWithoutDrainingEndsNothing(t *testing.T) {
	t.Parallel()
	s := session{phase: attached, mailbox: new(inbox.Mailbox)}
	if s.advance(detaching); s.drained() || s.acceptsAcks() {
		t.Errorf("drained %t, accepts acks %t", s.drained(), s.acceptsAcks())
	}
}

// A connection that drains before it is registered has no acknowledgements.
func TestUnregisteredConnectionAcceptsNoAcks(t *testing.T) {
	t.Parallel()
	var s session
	s.beginDrain(wire.CloseGoingAway, 0)
	if s.acceptsAcks() || !s.drained() {
		t.Errorf("accepts acks %t, drained %t", s.acceptsAcks(), s.drained())
	}
	if s.advance(attaching); s.phase != draining {
		t.Error("a registration that goes on ended the draining")
	}
}

// What is answered while the inbox is being attached follows the answer to the
// registration, which comes in a frame of its own; an error that ends the
// connection waits for neither.
func TestAnswersWaitForTheRegistrations(t *testing.T) {
	t.Parallel()
	var o outbox
	text := func(s string) func([]byte) []byte { return func(dst []byte) []byte { return append(dst, s...) } }
	o.add(text("presence"), 100, true)
	if answers, _ := o.takeBurst(); answers != nil {
		t.Errorf("an answer did not wait: %q", answers.data)
	}
	o.add(text("registered"), 100, false)
	o.alone = true
	o.unhold()
	answers, array := o.takeBurst()
	if string(answers.data) != "registeredpresence" || len(answers.ends) != 2 || array {
		t.Errorf("written are %q, %v, as an array: %t", answers.data, answers.ends, array)
	}
	if _, array := o.takeBurst(); !array {
		t.Error("the next frame is no array either")
	}
	if o.add(text("too large"), 5, false) != nil || o.outgoing.size() != 0 {
		t.Error("what is too large was queued")
	}
	o.release()
}
