package e2e_test

import (
	"fmt"
	"sync"
	"testing"
)

// flow is a constant stream to one device, from several senders.
type flow struct {
	t    *testing.T
	s    *server
	up   *gate
	book *ledger
	stop chan struct{}
	wg   sync.WaitGroup
	errs chan error
	over sync.Once
}

// startFlow sends to u/receiver until end.
func startFlow(t *testing.T, s *server, u string, senders int) *flow {
	t.Helper()
	s.register(t, u+"/receiver")
	f := &flow{
		t: t, s: s, up: newGate(s), stop: make(chan struct{}), errs: make(chan error, senders),
		book: &ledger{accepted: map[string]uint64{}, grown: make(chan struct{}, 1)},
	}
	for n := range senders {
		token := s.token(t, fmt.Sprintf("%s/sender%d", u, n))
		f.wg.Go(func() {
			if err := sendUntil(f.stop, f.up, token, n, f.book); err != nil {
				f.errs <- err
			}
		})
	}
	t.Cleanup(func() { f.over.Do(func() { close(f.stop) }) })
	return f
}

// end returns when all senders have had their answers.
func (f *flow) end() map[string]uint64 {
	f.t.Helper()
	f.over.Do(func() { close(f.stop) })
	f.wg.Wait()
	select {
	case err := <-f.errs:
		f.t.Fatal(err)
	default:
	}
	return f.book.accepted
}

// A device that comes and goes under a constant stream, by each way of going,
// sees no gap, no double and no swap.
func TestProtocol_5_NoGapAndNoDoubleUnderAStream(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"cut", "leave", "takeover", "mixed"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, u := serverAndUser(t)
			f := startFlow(t, s, u, 2)
			j := newJournal(t)
			var before *device
			for n := range 25 {
				how := kind
				if kind == "mixed" {
					how = []string{"cut", "leave", "takeover"}[j.random.IntN(3)]
				}
				j.begin(how)
				window := 1 + j.random.IntN(64)
				d := connect(t, s, u+"/receiver", object{"window": window, "batch": n%2 == 0})
				if before != nil {
					before.wantReplaced()
					before = nil
				}
				j.live(d, j.random.IntN(60), window)
				switch how {
				case "cut":
					d.close()
				case "leave":
					d.depart()
				case "takeover":
					before = d
				}
			}
			j.finish(s, u+"/receiver", f.end())
			if n := connect(t, s, u+"/receiver", nil).session.Pending; n != 0 {
				t.Errorf("%d pending at the end", n)
			}
			t.Log(j)
		})
	}
}

// wantReplaced reads to the end, which must be a takeover's.
func (d *device) wantReplaced() {
	d.t.Helper()
	for told := false; ; {
		e, err := d.receive()
		switch {
		case err == nil && e.Type == "error":
			told = true
		case err == nil:
		case !closedWith(err, 4002) || !told:
			d.t.Fatalf("want SESSION_REPLACED (%v) and close 4002, got %v", told, err)
		default:
			return
		}
	}
}

// depart unregisters while messages may still come.
func (d *device) depart() {
	d.t.Helper()
	d.send(object{"id": newID(), "type": "device_unregister", "payload": object{}})
	for {
		if _, err := d.receive(); err != nil {
			if !closedWith(err, 1000) {
				d.t.Fatalf("want close 1000, got %v", err)
			}
			return
		}
	}
}

// The same across servers that are told to stop, and that are killed.
func TestProtocol_5_NoGapAndNoDoubleAcrossRestarts(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"SIGTERM", "SIGKILL"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			u := user(t)
			f := startFlow(t, s, u, 2)
			j := newJournal(t)
			for range 4 {
				j.begin(kind)
				window := 1 + j.random.IntN(64)
				d := connect(t, s, u+"/receiver", object{"window": window})
				j.live(d, 50+j.random.IntN(200), window)
				f.up.close()
				if kind == "SIGKILL" {
					j.doubt()
					s.restart(t)
				} else {
					s.cycle(t)
					d.wantGoingAway()
				}
				f.up.open()
			}
			j.finish(s, u+"/receiver", f.end())
			t.Log(j)
		})
	}
}

// cycle ends the server in the orderly way and starts another.
func (s *server) cycle(t *testing.T) {
	t.Helper()
	status, err := s.terminate()
	if err != nil || status != 0 {
		t.Fatalf("after SIGTERM: exit status %d, %v", status, err)
	}
	s.begin(t)
}

// wantGoingAway reads to the end, which must be a draining server's.
func (d *device) wantGoingAway() {
	d.t.Helper()
	for {
		if _, err := d.receive(); err != nil {
			if !closedWith(err, 1001) {
				d.t.Fatalf("want close 1001, got %v", err)
			}
			return
		}
	}
}
