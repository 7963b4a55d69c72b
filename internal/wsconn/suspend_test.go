//go:build linux

package wsconn

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestSuspendedConnectionHandlesTheNextMessage(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	for range 3 {
		p.suspend()
		p.write("after a while")
		p.wantText("after a while")
		if p.conn.Suspended() {
			t.Error("suspended right after a message")
		}
	}
}

// A peer that says something every few seconds keeps its read loop.
func TestConnectionIsNotSuspendedBetweenMessagesOfAFewSeconds(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	now := p.u.began.Add(time.Duration(p.u.clock.Load()))
	for range 3 {
		for range 8 { // each a tick, 4 s in all
			now = now.Add(TickInterval)
			p.u.SetClock(now)
			p.conn.Tick(now, time.Hour)
		}
		p.write("again")
		p.wantText("again")
	}
	p.conn.mu.Lock()
	defer p.conn.mu.Unlock()
	if p.conn.watched { // an interrupted read loop is suspended a moment later
		t.Error("suspended after 4 s or less")
	}
}

func TestSuspendedConnectionIsWrittenTo(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.suspend()
	p.send("unasked")
	p.wantText("unasked")
	if !p.conn.Suspended() {
		t.Error("a write resumed the read loop")
	}
}

// A ping is answered, and the connection suspended again at once.
func TestSuspendedConnectionAnswersAPing(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.suspend()
	pong := make(chan string, 1)
	p.peer.SetPongHandler(func(s string) error { pong <- s; return nil })
	go func() { _, _, _ = p.peer.ReadMessage() }()
	for _, payload := range []string{"", "one", strings.Repeat("z", 125)} {
		check(t, p.peer.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(timeout)))
		if got := <-pong; got != payload {
			t.Errorf("pong with %q, want %q", got, payload)
		}
		eventually(t, "suspending without a tick", p.conn.Suspended)
	}
}

// A frame in pieces, with a ping between two of a message, is read like any
// other.
func TestSuspendedConnectionReadsPieces(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.suspend()
	text := strings.Repeat("x", 20<<10)
	whole := clientFrame(0x01, text[:9<<10])
	whole = append(whole, clientFrame(finalPing, "hear")...)
	whole = append(whole, clientFrame(0x80, text[9<<10:])...)
	for len(whole) > 0 {
		n := min(len(whole), 1+len(whole)/3)
		_, err := p.raw().Write(whole[:n])
		check(t, err)
		whole = whole[n:]
	}
	p.wantText(text)
}

// clientFrame is a frame with a mask of zeros.
func clientFrame(first byte, payload string) []byte {
	frame := appendHeader(nil, first, len(payload))
	frame[1] |= 0x80
	return append(append(frame, 0, 0, 0, 0), payload...)
}

func TestSuspendedConnectionEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		how  func(p *pair)
		code int
	}{
		"Close": {func(p *pair) { p.conn.Close(4000, "") }, 4000},
		"Abort": {func(p *pair) { p.conn.Abort() }, -1},
		"the peer's": {func(p *pair) {
			_ = p.peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(timeout))
		}, 1000},
		"a lost peer":    {func(p *pair) { _ = p.peer.NetConn().Close() }, -1},
		"a broken frame": {func(p *pair) { _, _ = p.peer.NetConn().Write([]byte{0xC1, 0x80, 0, 0, 0, 0}) }, 1002},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t, pairOptions{})
			p.suspend()
			end.how(p)
			if code := p.closeCode(); code != end.code {
				t.Errorf("closed with %d, want %d", code, end.code)
			}
			p.wantEnd(t)
		})
	}
}

// Half a frame is waited for as a message is: the peer is lost in time.
func TestHalfAFrameIsNotASignOfLife(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{})
	p.suspend()
	_, err := p.raw().Write([]byte{0x81})
	check(t, err)
	p.tickUntil("the peer is lost", 5*time.Second, func(lost bool) bool { return lost })
}

// With TLS, which may hold bytes of its own, the read loop stays.
func TestConnectionWithTLSIsNotSuspended(t *testing.T) {
	t.Parallel()
	p := connect(t, pairOptions{tls: true})
	now := p.u.began.Add(time.Duration(p.u.clock.Load()))
	for range 10 {
		now = now.Add(time.Second)
		p.u.SetClock(now)
		p.conn.Tick(now, time.Hour)
	}
	if p.conn.Suspended() {
		t.Error("suspended")
	}
	p.write("still there")
	p.wantText("still there")
}
