// Package devicetest connects devices to an edge in tests, by the protocol alone:
// with no part of RCCS between the test and the socket.
//
// [Dial] may be called from any goroutine. All else ends the test when it fails,
// so it is called from the test's own goroutine. The package must not be imported
// by anything but tests.
package devicetest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/testkit"
)

// URL is where an edge at HOST:PORT takes devices.
func URL(address string) string { return "ws://" + address + "/v1/ws" }

// How says how a connection is made. The zero value is what a device does.
type How struct {
	Header       http.Header
	Subprotocols []string    // nil: rccs.v1
	TLS          *tls.Config // for wss
	Compress     bool        // offers compression
	ReadBuffer   int         // of the socket, in bytes; 0 for the system's
}

// Dial opens a WebSocket. The answer's body is read and closed; where the server
// refused, ws is nil, the answer says how, and so does the error.
func Dial(ctx context.Context, url string, how How) (ws *websocket.Conn, answer *http.Response, err error) {
	dialer := websocket.Dialer{
		HandshakeTimeout: testkit.Patience, Subprotocols: how.Subprotocols, TLSClientConfig: how.TLS, EnableCompression: how.Compress,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil && how.ReadBuffer > 0 {
				err = c.(*net.TCPConn).SetReadBuffer(how.ReadBuffer)
			}
			return c, err
		},
	}
	if how.Subprotocols == nil {
		dialer.Subprotocols = []string{"rccs.v1"}
	}
	ws, answer, err = dialer.DialContext(ctx, url, how.Header)
	if answer == nil {
		return nil, nil, err
	}
	_ = answer.Body.Close() // gorilla has read it
	if err != nil {
		return nil, answer, fmt.Errorf("%w (status %d)", err, answer.StatusCode)
	}
	return ws, answer, nil
}

// Device is a connection that is closed with the test.
type Device struct {
	*websocket.Conn
	tb     testing.TB
	writes sync.Mutex // a connection takes one writer at a time
}

// Raw returns the socket below the WebSocket, for frames that no client writes. An
// answer to a ping leaves a deadline on it, which Raw removes.
func (d *Device) Raw() net.Conn {
	nc := d.NetConn()
	testkit.Check(d.tb, nc.SetWriteDeadline(time.Time{}))
	return nc
}

// Connect opens a connection and reads the challenge.
func Connect(tb testing.TB, url string, how How) *Device {
	tb.Helper()
	ws, _, err := Dial(tb.Context(), url, how) //nolint:bodyclose // Dial has closed it
	testkit.Check(tb, err)
	return Greet(tb, ws)
}

// Greet takes a connection that [Dial] made, and reads the challenge.
func Greet(tb testing.TB, ws *websocket.Conn) *Device {
	tb.Helper()
	d := &Device{Conn: ws, tb: tb}
	tb.Cleanup(func() { _ = ws.Close() })
	if kind, frame := d.Next(); kind != "device_register" {
		tb.Fatalf("greeted with %s", frame)
	}
	return d
}

// Send sends a frame.
func (d *Device) Send(frame string) {
	d.tb.Helper()
	d.writes.Lock()
	defer d.writes.Unlock()
	testkit.Check(d.tb, d.WriteMessage(websocket.TextMessage, []byte(frame)))
}

// SendRegister asks to be registered, and does not wait for the answer. extra is
// of the payload, such as `,"type":"mobile"`.
func (d *Device) SendRegister(token, extra string) {
	d.tb.Helper()
	d.Send(`{"type":"device_register","id":"r","payload":{"authToken":"` + token + `"` + extra + `}}`)
}

// Register returns when the registration is acknowledged.
func (d *Device) Register(token, extra string) {
	d.tb.Helper()
	d.SendRegister(token, extra)
	if kind, frame := d.Next(); kind != "ack" {
		d.tb.Fatalf("registered with %s", frame)
	}
}

// Next returns the type of the next frame, an envelope, and all of it.
func (d *Device) Next() (kind, frame string) {
	d.tb.Helper()
	testkit.Check(d.tb, d.SetReadDeadline(time.Now().Add(testkit.Patience)))
	_, data, err := d.ReadMessage()
	testkit.Check(d.tb, err)
	var e struct{ Type string }
	if err := json.Unmarshal(data, &e); err != nil {
		d.tb.Fatalf("%s: %v", data, err)
	}
	return e.Type, string(data)
}

// Read returns the next envelope that does not tell of presence.
func (d *Device) Read() map[string]any {
	d.tb.Helper()
	for {
		if e := d.ReadAny(); e["type"] != "presence" {
			return e
		}
	}
}

// ReadAny returns the next envelope.
func (d *Device) ReadAny() (envelope map[string]any) {
	d.tb.Helper()
	_, frame := d.Next()
	testkit.Check(d.tb, json.Unmarshal([]byte(frame), &envelope))
	return envelope
}

// Until reads until an envelope of the type comes.
func (d *Device) Until(typ string) map[string]any {
	d.tb.Helper()
	for {
		if e := d.ReadAny(); e["type"] == typ {
			return e
		}
	}
}

// Ack acknowledges an envelope.
func (d *Device) Ack(envelope map[string]any) {
	d.tb.Helper()
	d.Send(fmt.Sprintf(`{"type":"ack","payload":{"seq":%.0f}}`, envelope["seq"]))
}

// CloseCode reads to the end and returns the code of the close frame, -1 if there
// was none.
func (d *Device) CloseCode() int {
	_ = d.SetReadDeadline(time.Now().Add(testkit.Patience))
	for {
		if _, _, err := d.ReadMessage(); err != nil {
			if e := new(websocket.CloseError); errors.As(err, &e) {
				return e.Code
			}
			return -1
		}
	}
}
