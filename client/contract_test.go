package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestMessagesThatCannotBeReadAreRefusedAndTold(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth)
	long := changed(note(2), map[string]any{"id": strings.Repeat("i", wire.MaxID+1)})
	url := serve(t, func(p *peer) {
		p.registered(func(r *wire.Registered) { r.Window = 2 })
		p.send(note(1), long, strings.Replace(note(3), `{"n":3}`, deep, 1))
		p.send("[" + note(4) + "," + strings.Replace(note(5), `{"n":5}`, `{"seq":4,"d":`+deep+`}`, 1) + "," + note(6) + "]")
		p.send("no JSON", `{"type":"note","seq":7,"payload":"\xff"}`, `{"type":"note","seq":8,"payl`)
		p.send(changed(note(1<<52+1), map[string]any{"type": "topic", "topic": 1}))
		if err := p.ws.WriteMessage(websocket.BinaryMessage, []byte("binary")); err != nil {
			t.Error(err)
		}
		p.readAcks([]uint64{1, 4, 6}, 2, 3, 5, 7, 8)
		p.send(note(9))
		p.acks(9)
		p.drain()
	})
	unreadable := make(chan string, 16)
	c := dial(t, url, client.Options{OnUnreadable: func(text []byte, why error) {
		if why == nil {
			t.Errorf("no reason why %.40q cannot be read", text)
		}
		unreadable <- string(text)
	}})
	for _, seq := range []uint64{1, 4, 6, 9} {
		receive(t, c, seq).Ack()
	}
	if first := <-unreadable; first != long {
		t.Errorf("unreadable is %q, want the message", first)
	}
	if n := 1 + len(unreadable); n != 8 {
		t.Errorf("%d times heard of what cannot be read, want 8", n)
	}
}

func TestAControlMessageThatIsStoredDoesNotFillTheWindow(t *testing.T) {
	t.Parallel()
	allAcked := make(chan struct{})
	url := serve(t, func(p *peer) {
		p.registered()
		for i, typ := range []string{wire.TypePresence, wire.TypeError, wire.TypeHeartbeat, wire.TypeRegister} {
			p.send(changed(note(uint64(i+1)), map[string]any{"type": typ}))
		}
		p.readAcks(nil, 1, 2, 3, 4)
		close(allAcked)
		p.drain()
	})
	dial(t, url, client.Options{})
	testkit.Await(t, "the refusals", allAcked)
}

func TestARefusedMessageIsNotHandedOnAgain(t *testing.T) {
	t.Parallel()
	reason := strings.Repeat("ü", 200)
	url := serve(t, func(p *peer) {
		p.registered()
		p.send(note(1))
		reasons := p.readAcks(nil, 1)
		if len(reasons[0]) > wire.MaxReason || !strings.HasPrefix(reason, reasons[0]) || len(reasons[0]) < wire.MaxReason-2 {
			t.Errorf("refused because of %q", reasons[0])
		}
		p.send(changed(note(1), map[string]any{"redelivered": true}), note(2))
		p.acks(1, 2)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	m := receive(t, c, 1)
	m.Reject(reason)
	m.Reject("again")
	m.Ack()
	receive(t, c, 2).Ack()
}

func TestAnotherEpochForgetsWhatWasKnownBySeq(t *testing.T) {
	t.Parallel()
	epoch := func(name string) func(*wire.Registered) {
		return func(r *wire.Registered) { r.Epoch = name }
	}
	allAcked := make(chan struct{})
	as := func(seq uint64, id string) string { return changed(note(seq), map[string]any{"id": id}) }
	url := serve(t, func(p *peer) {
		switch p.n {
		case 0:
			p.registered(epoch("a"))
			p.send(as(1, "one"), as(2, "two"))
			p.acks(1)
		case 1: // the same epoch: 1 is known, 2 is being handled
			p.registered(epoch("a"))
			p.send(as(1, "one"), as(2, "two"))
			p.acks(1)
		case 2: // another: 1 is another message, 2 has come again as 3
			p.registered(epoch("b"))
			p.send(as(1, "uno"), as(3, "two"))
			p.acks(1, 3)
			close(allAcked)
			p.drain()
		}
	})
	connected := make(chan client.Session, 4)
	c := dial(t, url, client.Options{OnConnect: func(s client.Session) { connected <- s }})
	testkit.Await(t, "the first connection", connected)
	receive(t, c, 1).Ack()
	two := receive(t, c, 2)
	testkit.Await(t, "the second connection", connected)
	if s := testkit.Await(t, "the third connection", connected); s.Epoch != "b" {
		t.Errorf("epoch %q", s.Epoch)
	}
	m := receive(t, c, 1)
	if m.ID != "uno" {
		t.Errorf("received %s", m.ID)
	}
	two.Ack() // its seq means nothing any more: only its id is remembered
	m.Ack()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if m, err := c.Receive(ctx); err == nil {
		t.Errorf("%s was handed on twice", m.ID)
	}
	testkit.Await(t, "the acknowledgements", allAcked)
}

func TestATopicThatBeginsAnewIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	topic := func(seq uint64) string {
		return changed(note(seq), map[string]any{"type": "topic", "topic": "t", "id": "x"})
	}
	url := serve(t, func(p *peer) {
		p.registered()
		e := p.want(wire.TypeSubscribe)
		s, err := wire.DecodeSubscribe(e.Payload)
		if err != nil {
			t.Error(err)
		}
		answer := wire.Subscribed{OriginalID: e.ID, Topic: "t", Seq: 9, Epoch: "a"}
		if p.n == 0 {
			if s.Epoch != "" {
				t.Errorf("asked for epoch %q at first", s.Epoch)
			}
			p.send(string(answer.Append(nil)), topic(10), topic(11))
			return
		}
		if s.Epoch != "a" || s.Since.Seq != 11 {
			t.Errorf("asked for %+v of epoch %q, want 11 of a", s.Since, s.Epoch)
		}
		answer.Epoch, answer.Reset, answer.Seq = "b", true, 3
		gap := wire.Gap{Topic: "t", To: 2, Reason: wire.ReasonReset}
		p.send(string(answer.Append(nil)), string(gap.Append(nil)), topic(3))
		p.drain()
	})
	gaps := make(chan wire.Gap, 1)
	c := dial(t, url, client.Options{OnGap: func(g wire.Gap) { gaps <- g }})
	s, err := c.Subscribe(testkit.Soon(t), "t", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint64{10, 11, 3} {
		if m, err := s.Next(testkit.Soon(t)); err != nil || m.Seq != want {
			t.Fatalf("message %+v, %v, want %d", m, err, want)
		}
	}
	if g := testkit.Await(t, "the gap", gaps); g.Reason != wire.ReasonReset || g.To != 2 {
		t.Errorf("gap %+v", g)
	}
	if s.Epoch() != "b" || s.Last() != 3 {
		t.Errorf("at %d of epoch %q", s.Last(), s.Epoch())
	}
}

func TestADeviceSaysWhatItTakes(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 4000)
	url := serve(t, func(p *peer) {
		r := p.registered(func(r *wire.Registered) { r.MaxFrameBytes = 5000 })
		if r.MaxFrame != 5000 || r.OfflineDelay != 90*time.Second {
			t.Errorf("registered with %+v", r)
		}
		text, _ := json.Marshal(large)
		p.send(changed(note(1), map[string]any{"payload": json.RawMessage(text)}))
		p.acks(1)
		p.send(changed(note(2), map[string]any{"payload": strings.Repeat("x", 5000)}))
		if code := p.drain(); code != wire.CloseTooLarge {
			t.Errorf("a frame over the limit ended the connection with %s", code)
		}
	})
	c := dial(t, url, client.Options{MaxFrameBytes: 5000, OfflineDelay: 90 * time.Second, NoReconnect: true})
	if n := c.Session().MaxFrameBytes; n != 5000 {
		t.Errorf("the session has frames of %d bytes", n)
	}
	receive(t, c, 1).Ack()
	<-c.Done()
}

func TestTheListOfDevicesComesInPages(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		for _, page := range []struct{ from, device, next string }{{"", "a", "b"}, {"b", "b", ""}} {
			e := p.want(wire.TypeDeviceList)
			if l, err := wire.DecodeListDevices(e.Payload); err != nil || l.From != subjects.DeviceID(page.from) {
				t.Errorf("asked from %q, %v, want %q", l.From, err, page.from)
			}
			l := wire.DeviceList{OriginalID: e.ID, Devices: []wire.Device{{ID: subjects.DeviceID(page.device)}}, Next: subjects.DeviceID(page.next)}
			p.send(string(l.Append(nil)))
		}
		p.drain()
	})
	c := dial(t, url, client.Options{})
	all, err := c.Devices(testkit.Soon(t))
	if err != nil || len(all) != 2 || all[0].ID != "a" || all[1].ID != "b" {
		t.Errorf("listed %+v, %v", all, err)
	}
}

// A laptop sleeps until its credential has ended, and the file is renewed some
// time after it has woken.
func TestAnExpiredCredentialIsAskedForUntilItIsRenewed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "device.creds")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("a.old.token")
	for name, code := range map[string]wire.CloseCode{"4004": wire.CloseExpired, "4001 of an earlier edge": wire.CloseAuth} {
		t.Run(name, func(t *testing.T) {
			write("a.old.token")
			back := make(chan struct{})
			url := serve(t, func(p *peer) {
				switch {
				case p.n == 0:
					p.registered()
					p.close(wire.CloseExpired)
				case p.n < 3: // nobody has renewed it yet
					if p.n == 2 {
						write("a.new.token")
					}
					p.challenge()
					p.want(wire.TypeRegister)
					p.send(string((&wire.Error{Code: wire.TokenExpired}).Append(nil)))
					p.close(code)
				default:
					if r := p.registered(); r.AuthToken != "a.new.token" {
						t.Errorf("came back with %q", r.AuthToken)
					}
					close(back)
					p.drain()
				}
			})
			c := dial(t, url, client.Options{Credentials: client.CredentialsFile(file)})
			select {
			case <-back:
			case <-c.Done():
				t.Errorf("the client has ended: %v", c.Err())
			case <-testkit.Soon(t).Done():
				t.Error("the client did not come back")
			}
		})
	}
}

func TestAClientFollowsToTheEdgeThatServesItAndComesBackThere(t *testing.T) {
	t.Parallel()
	connections := make(chan string, 16)
	there := serve(t, func(p *peer) {
		p.registered()
		connections <- "there" // not before: the test ends with the second
		if p.n == 0 {
			return // the link is lost
		}
		p.drain()
	})
	elsewhere := func(p *peer, urls ...string) {
		p.challenge()
		p.want(wire.TypeRegister)
		p.send(string((&wire.Error{Code: wire.WrongEdge, URLs: urls}).Append(nil)))
		p.close(wire.CloseWrongEdge)
	}
	home := serve(t, func(p *peer) {
		connections <- "home"
		elsewhere(p, there)
	})
	c := dial(t, home, client.Options{})
	for _, want := range []string{"home", "there", "there"} {
		if got := testkit.Await(t, "a connection", connections); got != want {
			t.Errorf("connected %s, want %s", got, want)
		}
	}
	if s := c.Session(); !strings.HasPrefix(s.URL, there) {
		t.Errorf("the session is at %s, want %s", s.URL, there)
	}
}

func TestAnEdgeThatIsGoneSendsTheClientHome(t *testing.T) {
	t.Parallel()
	served := make(chan struct{})
	home := serve(t, func(p *peer) {
		if p.n == 0 {
			p.challenge()
			p.want(wire.TypeRegister)
			p.send(string((&wire.Error{Code: wire.WrongEdge, URLs: []string{"ws://127.0.0.1:1"}}).Append(nil)))
			p.close(wire.CloseWrongEdge)
			return
		}
		p.registered()
		close(served)
		p.drain()
	})
	dial(t, home, client.Options{Offline: true})
	testkit.Await(t, "the edge at home", served)
}

func TestTheErrorSaysWhichEdgeSentTheClientToOneThatIsGone(t *testing.T) {
	t.Parallel()
	home := serve(t, func(p *peer) {
		p.challenge()
		p.want(wire.TypeRegister)
		p.send(string((&wire.Error{Code: wire.WrongEdge, URLs: []string{"ws://127.0.0.1:1"}}).Append(nil)))
		p.close(wire.CloseWrongEdge)
	})
	_, err := client.Dial(testkit.Soon(t), home, &client.Options{Token: "token"})
	if err == nil || !strings.Contains(err.Error(), home) || !strings.Contains(err.Error(), "sent this device to ws://127.0.0.1:1") {
		t.Errorf("dialled %s: %v", home, err)
	}
}

// An edge that cannot serve may be there for long, and home knows of others.
func TestAnEdgeThatRefusesSendsTheClientHome(t *testing.T) {
	t.Parallel()
	there := serve(t, func(p *peer) {
		p.challenge()
		p.want(wire.TypeRegister)
		p.send(string(wire.NewError(wire.Unavailable, "the message store does not answer").Append(nil)))
		p.close(wire.CloseOverloaded)
	})
	served := make(chan struct{})
	home := serve(t, func(p *peer) {
		if p.n == 0 {
			p.challenge()
			p.want(wire.TypeRegister)
			p.send(string((&wire.Error{Code: wire.WrongEdge, URLs: []string{there}}).Append(nil)))
			p.close(wire.CloseWrongEdge)
			return
		}
		p.registered()
		close(served)
		p.drain()
	})
	dial(t, home, client.Options{Offline: true})
	testkit.Await(t, "the edge at home", served)
}

func TestTwoEdgesThatSendAClientToEachOtherDoNotKeepItRunning(t *testing.T) {
	t.Parallel()
	urls := make(chan string, 1)
	home := serve(t, func(p *peer) {
		url := <-urls
		urls <- url
		p.challenge()
		p.want(wire.TypeRegister)
		p.send(string((&wire.Error{Code: wire.WrongEdge, URLs: []string{url}}).Append(nil)))
		p.close(wire.CloseWrongEdge)
		if p.n > 4 {
			t.Errorf("connection %d of one Dial", p.n)
		}
	})
	urls <- home
	if _, err := client.Dial(testkit.Soon(t), home, &client.Options{Token: "token"}); !errors.Is(err, wire.WrongEdge) {
		t.Errorf("dialled: %v", err)
	}
}

func TestAMessageThatFailsAnEdgeThreeTimesIsGivenUp(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		p.registered()
		e := p.want("note")
		if e.ID == "poison" {
			p.close(wire.CloseInternal)
			return
		}
		p.accept(e)
		p.drain()
	})
	c := dial(t, url, client.Options{})
	if _, err := c.Send(testkit.Soon(t), wire.NewEnvelope("poison", "note", []byte(`1`))); !errors.Is(err, wire.Internal) {
		t.Errorf("the message ended with %v", err)
	}
	if _, err := c.Send(testkit.Soon(t), wire.NewEnvelope("good", "note", []byte(`1`))); err != nil {
		t.Errorf("the next one ended with %v", err)
	}
}
