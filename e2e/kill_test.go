package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/devicetest"
)

// What TestFault_KillUnderLoadLosesNothingAccepted does.
const (
	killTimes   = 3
	killAfter   = 300 // messages accepted between two kills
	killSenders = 4
	killFlight  = 16 // messages a sender has on the way
	// killMessages are those of one sender: an inbox has room for 10,000.
	killMessages = 2000
)

// ledger is what senders were promised.
type ledger struct {
	mu       sync.Mutex
	accepted map[string]uint64 // id to seq
	grown    chan struct{}     // capacity 1
}

func (l *ledger) add(id string, seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.accepted[id]; ok && before != seq {
		return fmt.Errorf("%s was accepted as %d and then as %d", id, before, seq)
	}
	l.accepted[id] = seq
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return nil
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// A server that is killed under load, several times, loses no message that it
// accepted, doubles none, and keeps the order of each lane.
func TestFault_KillUnderLoadLosesNothingAccepted(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	s.register(t, u+"/receiver")
	book := &ledger{accepted: map[string]uint64{}, grown: make(chan struct{}, 1)}
	stop := make(chan struct{})
	up := newGate(s)
	var senders sync.WaitGroup
	failed := make(chan error, killSenders)
	for n := range killSenders {
		name := fmt.Sprintf("%s/sender%d", u, n)
		token := s.token(t, name)
		senders.Go(func() {
			if err := sendUntil(stop, up, token, n, book); err != nil {
				failed <- err
			}
		})
	}
	for range killTimes {
		want := book.size() + killAfter
		for book.size() < want {
			select {
			case <-book.grown:
			case err := <-failed:
				t.Fatal(err)
			}
		}
		up.close()
		s.restart(t)
		up.open()
	}
	close(stop)
	senders.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	collect(t, s, u+"/receiver", book.accepted)
}

// gate keeps senders from connecting while there is no server.
type gate struct {
	s  *server
	mu sync.RWMutex
}

func newGate(s *server) *gate { return &gate{s: s} }
func (g *gate) close()        { g.mu.Lock() }
func (g *gate) open()         { g.mu.Unlock() }

// link connects and registers a sender, without a test to fail.
func (g *gate) link(token string) (*link, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	ws, _, err := devicetest.Dial(context.Background(), g.s.Devices, devicetest.How{}) //nolint:bodyclose // Dial has closed it
	if err != nil {
		return nil, err
	}
	l := &link{ws: ws}
	if _, err := l.next(); err != nil { // the challenge
		return nil, errors.Join(err, ws.Close())
	}
	register := object{"id": newID(), "type": "device_register", "payload": object{"authToken": token}}
	if err := ws.WriteJSON(register); err != nil {
		return nil, errors.Join(err, ws.Close())
	}
	if e, err := l.next(); err != nil || e.Type != "ack" {
		return nil, errors.Join(fmt.Errorf("registered with %s: %w", e.raw, err), ws.Close())
	}
	return l, nil
}

// repeatWithin is for how long a sender repeats a message. The id is known for two
// minutes, and on a starved machine a server may take so long to begin.
const repeatWithin = 100 * time.Second

// sendUntil sends numbered messages in all lanes, killFlight at a time, and
// sends what was not answered again after every lost connection.
func sendUntil(stop chan struct{}, up *gate, token string, sender int, book *ledger) error {
	waiting, since := map[string]object{}, map[string]time.Time{}
	next := 0
	for {
		l, err := up.link(token)
		if err != nil {
			continue // killed while it connected; link waits for the next server
		}
		for id, e := range waiting {
			if time.Since(since[id]) > repeatWithin {
				delete(waiting, id) // nobody knows what became of it
				continue
			}
			err = errors.Join(err, l.ws.WriteJSON(e))
		}
		for err == nil {
			stopping := false
			select {
			case <-stop:
				stopping = true
			default:
			}
			for !stopping && next < killMessages && len(waiting) < killFlight && err == nil {
				id := fmt.Sprintf("m-%d-%d", sender, next)
				e := object{"id": id, "type": "note", "toDeviceId": "receiver", "priority": next % 4, "payload": next, "requiresAck": true}
				waiting[id], since[id] = e, time.Now()
				next++
				err = l.ws.WriteJSON(e)
			}
			if len(waiting) == 0 {
				return l.ws.Close()
			}
			if err != nil {
				break
			}
			var e envelope
			if e, err = l.next(); err != nil {
				break
			}
			if err := noteAnswer(e, waiting, book); err != nil {
				return err
			}
		}
		_ = l.ws.Close()
	}
}

// noteAnswer notes an answer.
func noteAnswer(e envelope, waiting map[string]object, book *ledger) error {
	var a answer
	if err := json.Unmarshal(e.Payload, &a); err != nil {
		return err
	}
	switch {
	case e.Type == "error":
		var f failure
		if err := json.Unmarshal(e.Payload, &f); err != nil || f.Code != "UNAVAILABLE" {
			return fmt.Errorf("a sender was told %s", e.raw)
		}
		return nil // it stays in waiting, and is sent again on the next connection
	case a.Status != "accepted" || len(a.Recipients) != 1 || a.Recipients[0].Seq == 0:
		return fmt.Errorf("a sender was answered %s", e.raw)
	}
	delete(waiting, a.OriginalMessageID)
	return book.add(a.OriginalMessageID, a.Recipients[0].Seq)
}

// collect receives everything and compares it with what was accepted.
func collect(t *testing.T, s *server, name string, accepted map[string]uint64) {
	t.Helper()
	s.caughtUp(t, "witness")
	d := connect(t, s, name, object{"batch": true})
	if d.session.Pending < len(accepted) {
		t.Errorf("%d are pending, %d were accepted", d.session.Pending, len(accepted))
	}
	got := map[string]uint64{}
	var last [4]uint64
	for len(got) < len(accepted) {
		e := d.message()
		lane := *e.Priority
		if e.Seq <= last[lane] {
			t.Fatalf("lane %d: seq %d came after %d", lane, e.Seq, last[lane])
		}
		last[lane] = e.Seq
		if before, twice := got[e.ID]; twice {
			t.Fatalf("%s came as %d and as %d", e.ID, before, e.Seq)
		}
		if e.Redelivered {
			t.Errorf("%s is redelivered, and was never sent", e.ID)
		}
		if _, ok := accepted[e.ID]; ok {
			got[e.ID] = e.Seq
		}
		d.ack(e.Seq)
	}
	for id, seq := range accepted {
		if got[id] != seq {
			t.Errorf("%s was accepted as %d and came as %d", id, seq, got[id])
		}
	}
}
