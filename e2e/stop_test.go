package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

// Acknowledgements that the server heard just before SIGTERM are kept.
func TestFault_SIGTERMKeepsAcknowledgements(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	for range 3 {
		d := connect(t, s, u+"/d", nil)
		if d.session.Pending != 0 {
			t.Fatalf("%d pending: acknowledgements were lost", d.session.Pending)
		}
		for i := range 50 {
			d.tell("d", i, object{"priority": i % 4})
		}
		for range 50 {
			d.ack(d.message().Seq)
		}
		d.beat()
		s.cycle(t)
		d.wantClose(1001)
	}
}

// A client that never answers the close, reads nothing, or is not registered
// does not hold up the end.
func TestFault_SIGTERMIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	sender := connect(t, s, u+"/sender", nil)
	stalled := connectBy(t, s, u+"/stalled", dialing{readBuffer: 4096}, nil)
	for i := range 60 {
		sender.give("stalled", strings.Repeat("x", 100_000), object{"priority": i % 4})
	}
	unregistered := greeted(t, s, dialing{})
	if status, err := s.terminate(); err != nil || status != 0 {
		t.Errorf("exit status %d (%v), want 0\n%s", status, err, tail(s.log.String()))
	}
	unregistered.wantClose(1001)
	sender.wantClose(1001)
	stalled.close()
}

// Acknowledgements older than a second survive even a kill.
func TestFault_SIGKILLKeepsAcknowledgementsOfASecondAgo(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	d := connect(t, s, u+"/d", nil)
	for i := range 20 {
		d.give("d", i, nil)
	}
	for i := range 20 {
		if e := d.message(); i%2 == 0 {
			d.ack(e.Seq)
		}
	}
	d.silent(quiet)
	v := s.service(t, "watcher")
	eventually(t, func() error { // within a second; on a busy machine later
		m, err := v.nc.Request("rccs.coordinator.device", []byte(encode(t, object{"user": u, "device": "d"})), patience)
		if err != nil {
			return err
		}
		var shown struct{ Inbox struct{ Unacknowledged int } }
		decode(t, m.Data, &shown)
		if n := shown.Inbox.Unacknowledged; n != 10 {
			return fmt.Errorf("%d are not acknowledged", n)
		}
		return nil
	})
	s.restart(t)
	d = connect(t, s, u+"/d", nil)
	for i := 1; i < 20; i += 2 {
		if e := d.message(); string(e.Payload) != encode(t, i) || !e.Redelivered {
			t.Errorf("want %d again, got %s", i, e.raw)
		}
	}
	d.silent(quiet)
}

// A sender that does not know whether its messages were accepted before a kill
// sends them again, and they are stored once.
func TestFault_RepeatsAfterAKillAreStoredOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	s.register(t, u+"/receiver")
	sender := connect(t, s, u+"/sender", nil)
	seqs := map[string]uint64{}
	ids := []string{newID(), newID(), newID()}
	for _, id := range ids {
		seqs[id] = sender.give("receiver", id, object{"id": id}).Recipients[0].Seq
	}
	s.restart(t)
	sender = connect(t, s, u+"/sender", nil)
	for _, id := range ids {
		if a := sender.give("receiver", id, object{"id": id}); !a.Duplicate || a.Recipients[0].Seq != seqs[id] {
			t.Errorf("the repeat of %s was answered with %+v, want seq %d", id, a, seqs[id])
		}
	}
	s.caughtUp(t, u)
	if n := connect(t, s, u+"/receiver", nil).session.Pending; n != len(ids) {
		t.Errorf("%d pending, want %d", n, len(ids))
	}
}
