package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestRFC6455_FragmentsWithControlFramesBetween(t *testing.T) {
	t.Parallel()
	s := use(t)
	c := rawDevice(t, s, user(t)+"/d")
	id := newID()
	text := []byte(`{"id":"` + id + `","type":"note","toDeviceId":"d","payload":"é😀","requiresAck":true}`)
	frames := []frame{{opcode: opText, payload: text[:1]}}
	for i := 1; i < len(text); i++ { // in the middle of characters too
		frames = append(frames,
			frame{opcode: opContinuation, payload: text[i : i+1]},
			frame{fin: true, opcode: opPong, payload: []byte("unasked")})
		if i%20 == 0 {
			frames = append(frames, frame{opcode: opContinuation})
		}
	}
	frames = append(frames, frame{fin: true, opcode: opPing, payload: []byte("between")}, frame{fin: true, opcode: opContinuation})
	c.send(frames...)
	var pong, accepted, delivered bool
	for !pong || !accepted || !delivered {
		f := c.next()
		switch {
		case f.opcode == opPong && string(f.payload) == "between":
			pong = true
		case f.opcode == opText && strings.Contains(string(f.payload), "accepted"):
			accepted = true
		case f.opcode == opText && strings.Contains(string(f.payload), `"payload":"é😀"`):
			delivered = true
		default:
			t.Fatalf("got opcode %x, %q", f.opcode, f.payload)
		}
	}
}

func TestRFC6455_PingIsAnsweredWithItsPayload(t *testing.T) {
	t.Parallel()
	c := rawDevice(t, use(t), user(t)+"/d")
	for _, payload := range []string{"", "x", strings.Repeat("\xff\x00", 62) + "z"} {
		c.send(frame{fin: true, opcode: opPing, payload: []byte(payload)})
		if f := c.next(); f.opcode != opPong || string(f.payload) != payload {
			t.Errorf("ping %q answered with opcode %x, %q", payload, f.opcode, f.payload)
		}
	}
}

func TestRFC6455_PingBeforeRegistrationIsAnswered(t *testing.T) {
	t.Parallel()
	c := upgrade(t, use(t))
	c.envelope()
	c.send(frame{fin: true, opcode: opPing, payload: []byte("early")})
	if f := c.next(); f.opcode != opPong || string(f.payload) != "early" {
		t.Errorf("answered with opcode %x, %q", f.opcode, f.payload)
	}
}

func TestRFC6455_UnsolicitedPongIsIgnored(t *testing.T) {
	t.Parallel()
	c := rawDevice(t, use(t), user(t)+"/d")
	for range 100 {
		c.send(frame{fin: true, opcode: opPong, payload: []byte("nobody asked")})
	}
	c.beat()
}

func TestRFC6455_FramesInAnyPieces(t *testing.T) {
	t.Parallel()
	c := rawDevice(t, use(t), user(t)+"/d")
	id := newID()
	for _, b := range (frame{fin: true, opcode: opText, payload: []byte(`{"id":"` + id + `","type":"heartbeat"}`)}).bytes() {
		c.write([]byte{b})
	}
	if e := c.envelope(); !strings.Contains(e.raw, id) {
		t.Errorf("got %s", e.raw)
	}
}

func TestRFC6455_CloseIsEchoed(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	for i, code := range []int{1000, 1001, 1005, 3000, 4999, 1002, 1007, 1011} {
		c := rawDevice(t, s, u+"/d"+fmt.Sprint(i))
		payload := closePayload(code, "bye")
		if code == 1005 {
			payload = nil
		}
		c.send(frame{fin: true, opcode: opClose, payload: payload})
		c.wantClose(code)
	}
}

// What breaks the framing ends the connection with 1002, and a neighbour does
// not notice.
func TestRFC6455_ProtocolErrors(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	beat := []byte(`{"id":"x","type":"heartbeat"}`)
	neighbour := connect(t, s, u+"/neighbour", nil)
	for name, b := range map[string][]byte{
		"unmasked":                   frame{fin: true, opcode: opText, payload: beat}.encode(false),
		"unmasked ping":              frame{fin: true, opcode: opPing}.encode(false),
		"reserved bit 1":             frame{fin: true, opcode: opText, rsv: 0x40, payload: beat}.bytes(),
		"reserved bit 2":             frame{fin: true, opcode: opText, rsv: 0x20, payload: beat}.bytes(),
		"reserved bit 3":             frame{fin: true, opcode: opText, rsv: 0x10, payload: beat}.bytes(),
		"reserved bit on ping":       frame{fin: true, opcode: opPing, rsv: 0x40}.bytes(),
		"reserved opcode 3":          frame{fin: true, opcode: 3, payload: beat}.bytes(),
		"reserved opcode 7":          frame{fin: true, opcode: 7}.bytes(),
		"reserved control opcode b":  frame{fin: true, opcode: 0xb}.bytes(),
		"reserved control opcode f":  frame{fin: true, opcode: 0xf}.bytes(),
		"long ping":                  frame{fin: true, opcode: opPing, payload: bytes.Repeat([]byte("x"), 126)}.bytes(),
		"long close":                 frame{fin: true, opcode: opClose, payload: closePayload(1000, strings.Repeat("x", 124))}.bytes(),
		"fragmented ping":            frame{opcode: opPing}.bytes(),
		"fragmented close":           frame{opcode: opClose}.bytes(),
		"continuation of nothing":    frame{fin: true, opcode: opContinuation, payload: beat}.bytes(),
		"continuation of nothing, 2": frame{opcode: opContinuation, payload: beat}.bytes(),
		"text within text":           append(frame{opcode: opText, payload: beat[:3]}.bytes(), frame{fin: true, opcode: opText, payload: beat}.bytes()...),
		"close 0":                    frame{fin: true, opcode: opClose, payload: closePayload(0, "")}.bytes(),
		"close 999":                  frame{fin: true, opcode: opClose, payload: closePayload(999, "")}.bytes(),
		"close 1004":                 frame{fin: true, opcode: opClose, payload: closePayload(1004, "")}.bytes(),
		"close 1005":                 frame{fin: true, opcode: opClose, payload: closePayload(1005, "")}.bytes(),
		"close 1006":                 frame{fin: true, opcode: opClose, payload: closePayload(1006, "")}.bytes(),
		"close 1015":                 frame{fin: true, opcode: opClose, payload: closePayload(1015, "")}.bytes(),
		"close 2999":                 frame{fin: true, opcode: opClose, payload: closePayload(2999, "")}.bytes(),
		"close 5000":                 frame{fin: true, opcode: opClose, payload: closePayload(5000, "")}.bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := rawDevice(t, s, u+"/"+name)
			c.write(b)
			c.wantClose(1002)
			neighbour := rawDevice(t, s, u+"/"+name+" again")
			neighbour.beat()
		})
	}
	neighbour.beat()
}

func TestRFC6455_BadUTF8ClosesWith1007(t *testing.T) {
	t.Parallel()
	s := use(t)
	head, end := `{"id":"x","type":"note","toDeviceId":"d","payload":"`, `"}`
	whole := func(bad string) []frame {
		return []frame{{fin: true, opcode: opText, payload: []byte(head + bad + end)}}
	}
	split := func(first, second string) []frame {
		return []frame{
			{opcode: opText, payload: []byte(head + first)},
			{fin: true, opcode: opPing},
			{fin: true, opcode: opContinuation, payload: []byte(second + end)},
		}
	}
	for name, frames := range map[string][]frame{
		"byte":               whole("\xff"),
		"cut":                whole("\xc3"),
		"overlong":           whole("\xc0\xaf"),
		"surrogate":          whole("\xed\xa0\x80"),
		"too high":           whole("\xf4\x90\x80\x80"),
		"split":              split("\xe2\x82", "x"),
		"in the second part": split("good", "\x80"),
		"cut at the end":     {{fin: true, opcode: opText, payload: []byte("{}\xf0\x9f")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := rawDevice(t, s, user(t)+"/d") // nobody comes and goes beside it
			c.send(frames...)
			for {
				f := c.next()
				if f.opcode == opPong {
					continue
				}
				if f.opcode != opClose || closeCode(f.payload) != 1007 {
					t.Fatalf("want close 1007, got opcode %x, %q", f.opcode, f.payload)
				}
				return
			}
		})
	}
	c := rawDevice(t, s, user(t)+"/good")
	c.send(split("\xe2\x82", "\xac")...)
	if f := c.next(); f.opcode != opPong {
		t.Fatalf("got opcode %x, %q", f.opcode, f.payload)
	}
	if e := c.envelope(); e.Type != "error" { // no device d: the text itself was fine
		t.Errorf("a character split over two fragments: got %s", e.raw)
	}
}

// Where RFC 6455 only says that the connection fails: it ends, in order, and
// nothing else does.
func TestRFC6455_ConnectionFails(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	neighbour := connect(t, s, u+"/neighbour", nil)
	for name, b := range map[string][]byte{
		"close with one byte":     frame{fin: true, opcode: opClose, payload: []byte{3}}.bytes(),
		"close reason no UTF-8":   frame{fin: true, opcode: opClose, payload: closePayload(1000, "\xff")}.bytes(),
		"length with the top bit": {0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 'x'},
	} {
		c := rawDevice(t, s, u+"/"+name)
		c.write(b)
		c.wantEnd(name)
	}
	neighbour.beat()
}

// wantEnd reads to the end of the stream, which must not be a reset.
func (c *rawConn) wantEnd(what string) {
	c.t.Helper()
	for {
		if _, err := c.receive(); err != nil {
			if !errors.Is(err, io.EOF) {
				c.t.Errorf("%s: the connection ended with %v, want its orderly end", what, err)
			}
			return
		}
	}
}

// A client that has closed its sending side still hears what is on its way, and
// the connection ends.
func TestRFC6455_HalfClose(t *testing.T) {
	t.Parallel()
	s := use(t)
	c := rawDevice(t, s, user(t)+"/d")
	c.beat()
	if err := c.nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantEnd("half close")
}

func TestRFC6455_NothingAfterCloseIsProcessed(t *testing.T) {
	t.Parallel()
	s := use(t)
	name := user(t) + "/d"
	c := rawDevice(t, s, name)
	c.send(
		frame{fin: true, opcode: opClose, payload: closePayload(1000, "")},
		frame{fin: true, opcode: opText, payload: []byte(`{"id":"x","type":"note","toDeviceId":"d","payload":"after close"}`)})
	c.wantClose(1000)
	if n := connect(t, s, name, nil).session.Pending; n != 0 {
		t.Errorf("a message sent after the close frame was accepted")
	}
}

func TestRFC6455_BadHandshakesAreRefused(t *testing.T) {
	t.Parallel()
	s := use(t)
	address := strings.TrimSuffix(strings.TrimPrefix(s.Devices, "ws://"), "/v1/ws")
	for name, head := range map[string]string{
		"no key":      "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"version 12":  "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"POST":        "POST /v1/ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"not HTTP":    "hello\r\n\r\n",
		"huge header": "GET /v1/ws HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		if status := handshakeStatus(t, address, head); status < 400 || status >= 500 {
			t.Errorf("%s: status %d, want 4xx", name, status)
		}
	}
	connect(t, s, user(t)+"/d", nil).beat()
}
