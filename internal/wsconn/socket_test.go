package wsconn

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// tape is a socket that says what it was made with, and drops what it is told.
type tape struct {
	net.Conn
	in      io.Reader
	written int
}

func (s *tape) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *tape) Write(p []byte) (int, error) {
	s.written += len(p)
	return len(p), nil
}

func (s *tape) Close() error                     { return nil }
func (s *tape) SetDeadline(time.Time) error      { return nil }
func (s *tape) SetReadDeadline(time.Time) error  { return nil }
func (s *tape) SetWriteDeadline(time.Time) error { return nil }

// hijacked is the response to an upgrade on a socket.
type hijacked struct {
	http.ResponseWriter
	nc net.Conn
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.nc, bufio.NewReadWriter(bufio.NewReader(h.nc), bufio.NewWriter(h.nc)), nil
}

// upgradeHeader is that of a request for an upgrade.
func upgradeHeader() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
		"Sec-Websocket-Protocol": {"test"},
	}
}

// upgraded is a server's WebSocket on a socket.
func upgraded(tb testing.TB, u *websocket.Upgrader, nc net.Conn) *websocket.Conn {
	tb.Helper()
	r := httptest.NewRequest(http.MethodGet, "/v1/ws", nil)
	r.Header = upgradeHeader()
	ws, err := u.Upgrade(&hijacked{httptest.NewRecorder(), nc}, r, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return ws
}

// readerOf reads frames of a device.
func readerOf(tb testing.TB, data []byte) *websocket.Conn {
	tb.Helper()
	return upgraded(tb, &websocket.Upgrader{}, &tape{in: bytes.NewReader(data)})
}
