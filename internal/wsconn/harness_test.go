package wsconn

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyTestMain(m) }

// timeout is how long a test waits for what must happen.
const timeout = testkit.Patience

var (
	check      = testkit.Check
	eventually = testkit.Eventually
)

// echo is a handler that writes back what it reads, and what it is told to.
type echo struct {
	conn *Conn
	stop chan struct{} // if not nil, Message waits for it to be closed
	busy atomic.Bool   // Message waits

	mu      sync.Mutex
	got     []string
	queued  []string
	ends    []string // the callbacks of the end, in order
	written int      // by Write, so far
	closed  chan struct{}
}

func (e *echo) Message(_ int, data []byte) {
	if e.stop != nil {
		e.busy.Store(true)
		<-e.stop
	}
	e.mu.Lock()
	e.got = append(e.got, string(data))
	e.mu.Unlock()
	e.send(string(data))
}

func (e *echo) TooLarge() { e.conn.Close(websocket.CloseMessageTooBig, "too large") }

func (e *echo) send(s string) {
	e.mu.Lock()
	e.queued = append(e.queued, s)
	e.mu.Unlock()
	e.conn.Wake()
}

func (e *echo) Write(w Writer) error {
	e.mu.Lock()
	queued := e.queued
	e.queued = nil
	e.mu.Unlock()
	for _, s := range queued {
		if err := w.Text([]byte(s)); err != nil {
			return err
		}
	}
	err := w.Flush()
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.written += len(queued)
	}
	return err
}

func (e *echo) ReadClosed() { e.ended("read closed") }

func (e *echo) Closed() {
	e.ended("closed")
	close(e.closed)
}

func (e *echo) ended(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends = append(e.ends, what)
}

func (e *echo) messages() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// wantEnd checks that the connection ends, in order and once.
func (e *echo) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-e.closed:
	case <-time.After(timeout):
		t.Fatal("the connection did not end")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.ends, []string{"read closed", "closed"}) {
		t.Errorf("the end was told as %q", e.ends)
	}
}

// pair is a connection and its peer.
type pair struct {
	*echo
	t    *testing.T
	u    *Upgrader
	peer *websocket.Conn
}

// raw is the peer's socket below its WebSocket. A control frame leaves a deadline on
// it, which raw removes.
func (p *pair) raw() net.Conn {
	nc := p.peer.NetConn()
	check(p.t, nc.SetWriteDeadline(time.Time{}))
	return nc
}

type pairOptions struct {
	tls   bool
	stop  chan struct{}
	limit int
}

// connect makes a pair over TCP. Ticks come as in an edge.
func connect(t *testing.T, opts pairOptions) *pair {
	t.Helper()
	if opts.limit == 0 {
		opts.limit = 1 << 20
	}
	p := &pair{t: t, echo: &echo{stop: opts.stop, closed: make(chan struct{})}}
	p.u = NewUpgrader(Options{WriteTimeout: 2 * time.Second, CloseTimeout: time.Second, Limit: opts.limit, Subprotocols: []string{"test"}})
	check(t, p.u.Start())
	accepted := make(chan *Conn, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := p.u.Upgrade(w, r, p.echo)
		if err != nil {
			t.Error(err)
			close(accepted)
			return
		}
		accepted <- c
	}))
	dialer := websocket.Dialer{Subprotocols: []string{"test"}}
	if opts.tls {
		server.StartTLS()
		dialer.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		dialer.TLSClientConfig.NextProtos = nil // HTTP/2 cannot be upgraded
	} else {
		server.Start()
	}
	peer, resp, err := dialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
	check(t, err)
	check(t, resp.Body.Close())
	p.peer, p.conn = peer, <-accepted
	p.conn.Start()
	t.Cleanup(func() {
		p.conn.Abort()
		p.wantEnd(t)
		p.u.Stop()
		server.Close()
		_ = peer.Close()
	})
	return p
}

// tickUntil calls Tick with the time going on by its interval, as often as
// needed.
func (p *pair) tickUntil(what string, heartbeat time.Duration, ok func(lost bool) bool) {
	p.t.Helper()
	now := p.u.began.Add(time.Duration(p.u.clock.Load()))
	eventually(p.t, what, func() bool {
		now = now.Add(TickInterval)
		p.u.SetClock(now)
		return ok(p.conn.Tick(now, heartbeat))
	})
}

// suspend has the connection suspended.
func (p *pair) suspend() {
	p.t.Helper()
	p.tickUntil("suspending", time.Hour, func(bool) bool { return p.conn.Suspended() })
}

func (p *pair) write(s string) {
	p.t.Helper()
	check(p.t, p.peer.WriteMessage(websocket.TextMessage, []byte(s)))
}

// wantText reads one message.
func (p *pair) wantText(want string) {
	p.t.Helper()
	check(p.t, p.peer.SetReadDeadline(time.Now().Add(timeout)))
	_, got, err := p.peer.ReadMessage()
	check(p.t, err)
	if !bytes.Equal(got, []byte(want)) {
		p.t.Errorf("read %.40q of %d bytes, want %.40q of %d", got, len(got), want, len(want))
	}
}

// closeCode reads to the end; -1 if there was no close frame.
func (p *pair) closeCode() int {
	_ = p.peer.SetReadDeadline(time.Now().Add(timeout))
	for {
		if _, _, err := p.peer.ReadMessage(); err != nil {
			if e, ok := err.(*websocket.CloseError); ok && e.Code != websocket.CloseAbnormalClosure { //nolint:errorlint // gorilla returns it bare
				return e.Code
			}
			return -1
		}
	}
}
