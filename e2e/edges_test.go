package e2e_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// edge starts another edge of an installation.
func (s *server) edge(t *testing.T, name string, args ...string) *server {
	t.Helper()
	p, err := startCommand(command(context.WithoutCancel(t.Context()), append([]string{
		"edge", "--server", s.NATS, "--data", s.data, "--name", name, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
	}, args...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of edge %s:\n%s", name, tail(p.log.String()))
		}
	})
	return &server{process: p, data: s.data, tokens: s.tokens}
}

func TestEdges_AnyEdgeServesAnyDevice(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	other := s.edge(t, "other")
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	desktop := connect(t, other, u+"/desktop", nil)
	phone.wantPresence("online")
	phone.give("desktop", "across", nil)
	desktop.ack(desktop.wantMessage(`"across"`).Seq)
	if o := phone.outcome(); o.Status != "delivered" {
		t.Errorf("heard %+v", o)
	}
	phone.ask("desktop", "q", "m", nil)
	desktop.asked()
	desktop.reply("q", object{"result": 1}, false)
	phone.wantResponse("q")
	phone.send(object{"id": "e", "type": "note", "toDeviceId": "desktop", "payload": 2, "ephemeral": true})
	if e := desktop.pick(false); string(e.Payload) != "2" {
		t.Errorf("got %s", e.raw)
	}
	// A takeover between edges is no change to others, and what was not
	// acknowledged comes again.
	phone.give("desktop", "unread", nil)
	desktop.message()
	again := connect(t, s, u+"/desktop", nil)
	if !again.session.Resumed || again.session.SessionID != desktop.session.SessionID {
		t.Errorf("taken over as %+v", again.session)
	}
	desktop.wantReplaced()
	if e := again.message(); string(e.Payload) != `"unread"` || !e.Redelivered {
		t.Errorf("got %s", e.raw)
	} else {
		again.ack(e.Seq)
	}
	again.beat()
	phone.unmoved(quiet)
	phone.ask("desktop", "q2", "m", nil)
	again.asked()
}

// An edge that dies takes its devices offline within its lease, and one that
// comes back under its name at once.
func TestEdges_ADeadEdgesDevicesGoOffline(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	other := s.edge(t, "other")
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	connect(t, other, u+"/desktop", nil)
	phone.wantPresence("online")
	if err := other.kill(); err != nil {
		t.Fatal(err)
	}
	phone.wantPresence("offline")
	third := s.edge(t, "third")
	connect(t, third, u+"/desktop", nil)
	phone.wantPresence("online")
	if err := third.kill(); err != nil {
		t.Fatal(err)
	}
	s.edge(t, "third")
	phone.wantPresence("offline")
	phone.unmoved(quiet)
}

func TestProtocol_3_RacingReconnectsEndWithOne(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	servers := []*server{s, s.edge(t, "other")}
	phone := connect(t, s, u+"/phone", object{"type": "mobile"})
	token := s.token(t, u+"/desktop")
	const racing = 100
	var wg sync.WaitGroup
	var mu sync.Mutex
	var registered []*websocket.Conn
	ended := make(chan error, racing)
	for n := range racing {
		wg.Go(func() {
			g := newGate(servers[n%2])
			l, err := g.link(token)
			for began := time.Now(); err != nil && strings.Contains(err.Error(), `"UNAVAILABLE"`) && time.Since(began) < patience; {
				l, err = g.link(token) // the store was slow, perhaps when the others were replaced already
			}
			if err != nil { // replaced before it was registered
				ended <- err
				return
			}
			mu.Lock()
			registered = append(registered, l.ws)
			mu.Unlock()
			go func() {
				for {
					if _, err := l.next(); err != nil {
						ended <- err
						return
					}
				}
			}()
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, ws := range registered {
			_ = ws.Close()
		}
	})
	for range racing - 1 {
		select {
		case err := <-ended:
			var closed *websocket.CloseError
			if !errors.As(err, &closed) && !closedWith(err, 4002) {
				continue // told so in place of the registration's answer
			}
			if closed.Code != 4002 {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("more than one connection stands")
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("none stands: %v", err)
	case <-time.After(quiet):
	}
	phone.wantPresence("online")
	phone.unmoved(quiet)
	phone.give("desktop", "to the one that stands", nil)
	if got := phone.list()["desktop"].Status; got != "online" {
		t.Errorf("listed as %s", got)
	}
}
