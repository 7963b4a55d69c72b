package chaos_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/wire"
)

// laneNames are the lanes by their numbers.
var laneNames = [...]string{"low", "normal", "high", "critical"}

// listener is a device without an SDK. It sees every frame: what comes again,
// and whether it says so.
type listener struct {
	name   string // USER/DEVICE
	token  string
	ledger *ledger

	mu     sync.Mutex
	url    string
	away   string          // where an edge has sent it; empty: url
	conn   *websocket.Conn // nil: none
	paused chan struct{}   // closed when it may connect again; nil: it may
	once   bool            // it was registered
	keep   bool            // it acknowledges nothing
}

// wsURL is where devices connect at an address.
func wsURL(address string) string { return "ws://" + address + "/v1/ws" }

// frame is what the edge writes, as far as a listener reads it.
type frame struct {
	Type        string `json:"type"`
	Seq         uint64 `json:"seq"`
	Redelivered bool   `json:"redelivered"`
	Payload     json.RawMessage
}

// silence is how long a connection may be without a ping.
const silence = 12 * time.Second

// run connects until ctx ends.
func (l *listener) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		paused := l.paused
		l.mu.Unlock()
		if paused != nil {
			select {
			case <-paused:
			case <-ctx.Done():
			}
			continue
		}
		l.serve(ctx)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// pause ends the connection and makes no other until resume.
func (l *listener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = make(chan struct{})
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// move has it connect elsewhere.
func (l *listener) move(url string) {
	l.pause()
	l.mu.Lock()
	l.url = url
	l.mu.Unlock()
	l.resume()
}

func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.paused)
	l.paused = nil
}

// next is where it connects next. It goes elsewhere once, and then asks again.
func (l *listener) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	url := cmp.Or(l.away, l.url)
	l.away = ""
	return url
}

// acknowledge has it acknowledge what comes, or not.
func (l *listener) acknowledge(does bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep = !does
}

func (l *listener) registered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.once
}

// hold makes a connection the one that pause closes. It is false when there is
// to be none.
func (l *listener) hold(conn *websocket.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	return l.paused == nil
}

// serve is one connection.
func (l *listener) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialing, cancelDialing := context.WithTimeout(ctx, 2*time.Second)
	defer cancelDialing()
	how := devicetest.How{Header: http.Header{"Authorization": {"Bearer " + l.token}}}
	conn, _, err := devicetest.Dial(dialing, l.next(), how) //nolint:bodyclose // Dial has closed it
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if !l.hold(conn) {
		return
	}
	alive := func() { _ = conn.SetReadDeadline(time.Now().Add(silence)) }
	alive()
	pong := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		alive()
		return pong(data)
	})
	register := map[string]any{"type": "device_register", "id": "r", "payload": map[string]any{"type": "desktop", "heartbeatMs": 5000}}
	if conn.WriteJSON(register) != nil {
		return
	}
	for {
		var f frame
		if conn.ReadJSON(&f) != nil {
			return
		}
		alive()
		if !l.take(conn, &f) {
			return
		}
	}
}

// take takes a frame; false: the connection is of no use any more.
func (l *listener) take(conn *websocket.Conn, f *frame) bool {
	switch f.Type {
	case "ack":
		l.mu.Lock()
		l.once = true
		l.mu.Unlock()
	case "error":
		var told struct{ URLs []string }
		if json.Unmarshal(f.Payload, &told) == nil && len(told.URLs) > 0 {
			l.mu.Lock()
			l.away = told.URLs[0]
			l.mu.Unlock()
		}
	case "gap":
		var g struct {
			Lane, Reason             string
			From, To, Count, AtLeast uint64
		}
		if json.Unmarshal(f.Payload, &g) == nil {
			l.ledger.gap(l.name, wire.Gap{Lane: g.Lane, Reason: g.Reason, From: g.From, To: g.To, Count: g.Count, AtLeast: g.AtLeast})
		}
	case "numbered":
		var v numbered
		if json.Unmarshal(f.Payload, &v) != nil {
			return false
		}
		l.ledger.arrive(flow{v.From, l.name, v.Lane}, v.N, f.Seq, f.Redelivered)
		l.mu.Lock()
		keep := l.keep
		l.mu.Unlock()
		if keep {
			return true
		}
		return conn.WriteJSON(map[string]any{"type": "ack", "payload": map[string]any{"seq": f.Seq}}) == nil
	}
	return true
}
