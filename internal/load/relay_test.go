package load_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// relay is the floor that RCCS is measured against: a WebSocket server that hands
// every frame it reads to one other connection, in memory, and does nothing else. It
// does not check who connects, look into frames, store, or wait for
// acknowledgements.
//
// It is made as cheap as a server on gorilla/websocket gets, or RCCS would be
// flattered: the frames that one read brought are written with one system call.
//
// A relay is an http.Handler, safe for concurrent use. A client names itself and its
// receiver in the query: GET /?id=a&to=b. Whatever it sends goes to b, and is dropped
// when b is not connected. The zero value is ready; its listener must be a
// [relayListener].
type relay struct {
	upgrader websocket.Upgrader
	conns    sync.Map // id to *relayConn
}

// relayConn is a connection with the lock that gorilla wants around writes.
type relayConn struct {
	mu     sync.Mutex
	ws     *websocket.Conn
	socket *relaySocket
}

// ServeHTTP implements http.Handler. It returns when the connection ends.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	id, to := query.Get("id"), query.Get("to")
	c := &relayConn{}
	// Known before the client is answered: what is sent to it from then on
	// waits for the lock.
	c.mu.Lock()
	r.conns.Store(id, c)
	defer r.conns.CompareAndDelete(id, c)
	err := c.open(&r.upgrader, w, req)
	c.mu.Unlock()
	if err != nil {
		return // Upgrade has answered
	}
	defer func() { _ = c.ws.Close() }()
	var peer *relayConn
	c.socket.gather(func() error { // runs in ReadMessage
		if peer == nil || peer.socket == nil {
			return nil
		}
		return peer.socket.flush()
	})
	for {
		kind, data, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		found, ok := r.conns.Load(to)
		if !ok {
			continue
		}
		peer = found.(*relayConn)
		if peer.write(kind, data) != nil {
			return
		}
	}
}

func (c *relayConn) open(u *websocket.Upgrader, w http.ResponseWriter, req *http.Request) error {
	ws, err := u.Upgrade(w, req, nil)
	if err != nil {
		return err
	}
	c.ws = ws
	nc := ws.NetConn()
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	if c.socket, _ = nc.(*relaySocket); c.socket == nil {
		return errors.Join(errNoListener, ws.Close())
	}
	return nil
}

var errNoListener = errors.New("relay: serve it on a relayListener")

func (c *relayConn) write(kind int, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return nil // it could not be opened
	}
	return c.ws.WriteMessage(kind, data)
}

// relayListener makes connections that gather what is written to them. Under TLS it
// belongs below.
type relayListener struct{ net.Listener }

// Accept implements net.Listener.
func (l relayListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &relaySocket{Conn: nc}, nil
}

// relaySocket is a net.Conn that, once told to, keeps what is written until flush.
type relaySocket struct {
	net.Conn
	idle func() error // all that came has been read

	mu      sync.Mutex
	gathers bool
	buf     []byte
}

func (s *relaySocket) gather(idle func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle, s.gathers = idle, true
}

// Read implements net.Conn.
func (s *relaySocket) Read(p []byte) (int, error) {
	if s.idle != nil {
		if err := s.idle(); err != nil {
			return 0, err
		}
	}
	return s.Conn.Read(p)
}

// Write implements net.Conn.
func (s *relaySocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gathers {
		return s.Conn.Write(p)
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

func (s *relaySocket) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.Conn.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}
