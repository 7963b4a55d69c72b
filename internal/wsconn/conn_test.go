package wsconn

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestMessagesGoBothWays(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]pairOptions{"plain": {}, "TLS": {tls: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t, opts)
			if p.conn.Subprotocol() != "test" {
				t.Errorf("subprotocol %q", p.conn.Subprotocol())
			}
			for _, s := range []string{"", "a", strings.Repeat("b", 125), strings.Repeat("c", 126), strings.Repeat("d", 70_000), strings.Repeat("e", 1<<20)} {
				p.write(s)
				p.wantText(s)
			}
		})
	}
}

func TestCloseFrameFollowsWhatWasQueued(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	for range 100 {
		p.send("queued")
	}
	if !p.conn.Close(4000, "why") {
		t.Error("the first Close was not the first")
	}
	if p.conn.Open() {
		t.Error("open after Close")
	}
	for range 100 {
		p.wantText("queued")
	}
	if code := p.closeCode(); code != 4000 {
		t.Errorf("closed with %d", code)
	}
	p.wantEnd(t)
	if p.written != 100 {
		t.Errorf("%d were written", p.written)
	}
}

func TestFirstCloseDecides(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.conn.Close(4001, "")
	if p.conn.Close(4002, "") {
		t.Error("the second Close was the first")
	}
	if code := p.closeCode(); code != 4001 {
		t.Errorf("closed with %d", code)
	}
}

func TestPeersCloseIsAnsweredWithItsCode(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	check(t, p.peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye"), time.Now().Add(timeout)))
	if code := p.closeCode(); code != 4321 {
		t.Errorf("closed with %d", code)
	}
	p.wantEnd(t)
	if p.conn.Close(4000, "") {
		t.Error("Close after the end was the first")
	}
}

func TestNothingIsWrittenAfterTheCloseFrame(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.conn.Close(4000, "")
	eventually(t, "the close frame is written", func() bool { return state(p.conn.state.Load()) == closed })
	p.send("late")
	if code := p.closeCode(); code != 4000 {
		t.Errorf("closed with %d", code)
	}
	p.wantEnd(t)
	if p.written != 0 {
		t.Error("something was written after the close frame")
	}
}

// While the connection is closing, messages still reach the handler.
func TestMessagesAreHandledWhileClosing(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.peer.SetCloseHandler(func(code int, _ string) error {
		p.write("late")
		return p.peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(timeout))
	})
	p.conn.Close(4000, "")
	p.closeCode()
	p.wantEnd(t)
	if got := p.messages(); len(got) != 1 || got[0] != "late" {
		t.Errorf("handled %q", got)
	}
}

func TestPeerThatDoesNotCloseIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.conn.Close(4000, "") // the peer does not read
	p.wantEnd(t)
}

func TestAbortEndsWithoutACloseFrame(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.conn.Abort()
	p.wantEnd(t)
	if code := p.closeCode(); code != -1 {
		t.Errorf("closed with %d", code)
	}
}

// Whatever ends a connection, and however many at a time, it ends once.
func TestConnectionEndsOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		p := connect(t, pairOptions{})
		var wg sync.WaitGroup
		for _, end := range []func(){
			func() { p.conn.Close(4000, "") },
			func() { p.conn.Abort() },
			func() { _ = p.peer.Close() },
			func() { _, _ = p.peer.NetConn().Write([]byte{0xC1, 0x80, 0, 0, 0, 0}) },
			func() { p.send("x") },
			p.conn.Wake,
		} {
			wg.Go(end)
		}
		wg.Wait()
		p.wantEnd(t)
	}
}

func TestPeerThatBreaksTheProtocolIsTold(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"a reserved bit":            {0xC1, 0x80, 0, 0, 0, 0},
		"no mask":                   {0x81, 0x01, 'x'},
		"a length that cannot be":   {0x81, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		"a ping that is too long":   {0x89, 0xFE, 1, 0, 0, 0, 0, 0},
		"a continuation of nothing": {0x80, 0x80, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t, pairOptions{})
			_, err := p.raw().Write(frame)
			check(t, err)
			if code := p.closeCode(); code != websocket.CloseProtocolError {
				t.Errorf("closed with %d", code)
			}
			p.wantEnd(t)
		})
	}
}

func TestMessageOverTheLimitIsNotHandled(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{limit: 10})
	p.write("0123456789")
	p.wantText("0123456789")
	p.write("0123456789a")
	if code := p.closeCode(); code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}
	p.wantEnd(t)
	if got := p.messages(); len(got) != 1 {
		t.Errorf("handled %q", got)
	}
}

func TestHandlerHoldsTheReaderBack(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	p := connect(t, pairOptions{stop: stop})
	p.write("a")
	p.write("b")
	eventually(t, "the handler is busy", p.busy.Load)
	if p.conn.Tick(time.Now().Add(time.Hour), time.Second) {
		t.Error("a peer whose messages are not read was taken for lost")
	}
	if got := p.messages(); len(got) != 0 {
		t.Errorf("handled %q", got)
	}
	close(stop)
	p.wantText("a")
	p.wantText("b")
}

// A peer that takes nothing for the write timeout is given up.
func TestPeerThatDoesNotReadIsGivenUp(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.send(strings.Repeat("x", 64<<20)) // more than the kernel buffers
	p.wantEnd(t)
	if p.written != 0 {
		t.Error("what the peer did not take counts as written")
	}
}

func TestSilentPeerIsLost(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	pings := make(chan struct{}, 100)
	p.peer.SetPingHandler(func(string) error { pings <- struct{}{}; return nil })
	go func() { _, _, _ = p.peer.ReadMessage() }()
	p.tickUntil("a peer that does not answer pings is lost", 5*time.Second, func(lost bool) bool { return lost })
	select {
	case <-pings:
	case <-time.After(timeout):
		t.Error("the peer was not pinged")
	}
}

func TestPeerThatAnswersPingsIsNotLost(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	go func() { _, _, _ = p.peer.ReadMessage() }() // answers pings
	now := p.u.began.Add(time.Duration(p.u.clock.Load()))
	p.conn.Tick(now, 2*time.Second) // the first ping follows within a heartbeat
	for range 50 {
		now = now.Add(2*time.Second + 10*time.Millisecond)
		p.u.SetClock(now)
		if p.conn.Tick(now, 2*time.Second) {
			t.Fatal("lost")
		}
		eventually(t, "the pong", func() bool { return p.conn.lastRead.Load() == p.u.since(now) })
	}
}
