package e2e_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// rawConn is a WebSocket connection that sends whatever bytes it is told to.
type rawConn struct {
	t  *testing.T
	nc *net.TCPConn
	r  *bufio.Reader
}

// frame is one WebSocket frame.
type frame struct {
	fin     bool
	rsv     byte // the three reserved bits, as 0x40, 0x20 and 0x10
	opcode  byte
	payload []byte
}

// upgrade opens a connection by hand.
func upgrade(t *testing.T, s *server) *rawConn {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(s.Devices, "ws://"), "/v1/ws")
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &rawConn{t: t, nc: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
	c.write([]byte("GET /v1/ws HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rccs.v1\r\n\r\n"))
	response, err := http.ReadResponse(c.r, nil) //nolint:bodyclose // 101 has no body: what follows is frames
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %s", response.Status)
	}
	if got := response.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("Sec-WebSocket-Accept is %q", got)
	}
	return c
}

// rawDevice is a registered device with a connection by hand.
func rawDevice(t *testing.T, s *server, name string) *rawConn {
	t.Helper()
	for began := time.Now(); ; {
		c := upgrade(t, s)
		c.envelope() // the challenge
		c.text(encode(t, object{"id": "reg", "type": "device_register", "payload": object{"authToken": s.token(t, name), "heartbeatMs": seldom}}))
		switch e := c.envelope(); {
		case e.Type == "ack":
			return c
		case !turnedAway(e) || time.Since(began) > patience:
			t.Fatalf("registration answered with %s", e.raw)
		}
	}
}

func (c *rawConn) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// bytes is the frame as a client sends it, masked.
func (f frame) bytes() []byte { return f.encode(true) }

func (f frame) encode(masked bool) []byte {
	first := f.opcode | f.rsv
	if f.fin {
		first |= 0x80
	}
	b := []byte{first}
	var mask byte
	if masked {
		mask = 0x80
	}
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if !masked {
		return append(b, f.payload...)
	}
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, key[:]...)
	for i, x := range f.payload {
		b = append(b, x^key[i&3])
	}
	return b
}

// send writes frames in one piece.
func (c *rawConn) send(frames ...frame) {
	c.t.Helper()
	var b []byte
	for _, f := range frames {
		b = append(b, f.bytes()...)
	}
	c.write(b)
}

func (c *rawConn) text(s string) {
	c.t.Helper()
	c.send(frame{fin: true, opcode: opText, payload: []byte(s)})
}

// receive reads one frame, which must be as a server sends it.
func (c *rawConn) receive() (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{fin: head[0]&0x80 != 0, rsv: head[0] & 0x70, opcode: head[0] & 0x0f}
	if head[1]&0x80 != 0 || f.rsv != 0 {
		return f, fmt.Errorf("the server sent a frame that begins with %x", head)
	}
	n := uint64(head[1])
	var long [8]byte
	switch n {
	case 126:
		if _, err := io.ReadFull(c.r, long[:2]); err != nil {
			return f, err
		}
		n = uint64(binary.BigEndian.Uint16(long[:2]))
	case 127:
		if _, err := io.ReadFull(c.r, long[:]); err != nil {
			return f, err
		}
		n = binary.BigEndian.Uint64(long[:])
	}
	if n > 16<<20 {
		return f, fmt.Errorf("the server sent a frame of %d bytes", n)
	}
	f.payload = make([]byte, n)
	_, err := io.ReadFull(c.r, f.payload)
	return f, err
}

// next reads a frame. Pings are passed over: the edge asks whether we are there,
// whenever it likes.
func (c *rawConn) next() frame {
	c.t.Helper()
	for {
		f, err := c.receive()
		if err != nil {
			c.t.Fatal(err)
		}
		if f.opcode != opPing {
			return f
		}
	}
}

// envelope reads text frames up to one that does not tell of another device.
func (c *rawConn) envelope() envelope {
	c.t.Helper()
	for {
		if e := c.any(); e.Type != "presence" {
			return e
		}
	}
}

// any reads a text frame.
func (c *rawConn) any() envelope {
	c.t.Helper()
	f := c.next()
	if f.opcode != opText || !f.fin {
		c.t.Fatalf("want a text frame, got opcode %x, %q", f.opcode, f.payload)
	}
	var e envelope
	if err := json.Unmarshal(f.payload, &e); err != nil {
		c.t.Fatal(err)
	}
	e.raw = string(f.payload)
	return e
}

// wantClose reads a close frame with a code, after errors perhaps, then the end
// of the stream: not a reset, which would have lost the frame for a client
// that reads later.
func (c *rawConn) wantClose(code int) {
	c.t.Helper()
	for {
		f, err := c.receive()
		switch {
		case err != nil:
			c.t.Fatalf("want close %d, got %v", code, err)
		case f.opcode == opText, f.opcode == opPing:
			continue
		case f.opcode != opClose || len(f.payload) < 2 && code != 1005:
			c.t.Fatalf("want close %d, got opcode %x, %q", code, f.opcode, f.payload)
		}
		if got := closeCode(f.payload); got != code {
			c.t.Fatalf("want close %d, got %d", code, got)
		}
		break
	}
	if n, err := c.r.Read(make([]byte, 1)); n > 0 || err == nil {
		c.t.Fatalf("after the close frame came more")
	}
}

// closeCode is the code of a close frame, 1005 when it has none.
func closeCode(payload []byte) int {
	if len(payload) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16(payload))
}

func closePayload(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// beat shows that the connection works.
func (c *rawConn) beat() {
	c.t.Helper()
	id := newID()
	c.text(`{"id":"` + id + `","type":"heartbeat"}`)
	if e := c.envelope(); e.Type != "ack" || !strings.Contains(e.raw, `"`+id+`"`) {
		c.t.Fatalf("heartbeat answered with %s", e.raw)
	}
}
