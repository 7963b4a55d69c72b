// Package relay is the floor that RCCS is measured against: a WebSocket server
// that hands every frame it reads to one other connection, in memory, and does
// nothing else. It does not check who connects, look into frames, store, or
// wait for acknowledgements. It is a yardstick, not something to run.
//
// A relay is safe for concurrent use. Its connections end when their peers
// close them or the listener's process ends.
package relay

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// Relay is an http.Handler. A client names itself and its receiver in the
// query: GET /?id=a&to=b. Whatever it sends goes to b, and is dropped when b is
// not connected. The zero value is ready.
type Relay struct {
	upgrader websocket.Upgrader
	conns    sync.Map // id to *conn
}

// conn is a connection with the lock that gorilla wants around writes.
type conn struct {
	mu sync.Mutex
	ws *websocket.Conn
}

// ServeHTTP implements http.Handler. It returns when the connection ends.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	id, to := query.Get("id"), query.Get("to")
	ws, err := r.upgrader.Upgrade(w, req, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer ws.Close()
	c := &conn{ws: ws}
	r.conns.Store(id, c)
	defer r.conns.CompareAndDelete(id, c)
	for {
		kind, data, err := ws.ReadMessage()
		if err != nil {
			return
		}
		peer, ok := r.conns.Load(to)
		if !ok {
			continue
		}
		if peer.(*conn).write(kind, data) != nil {
			return
		}
	}
}

func (c *conn) write(kind int, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws.WriteMessage(kind, data)
}
