package wsconn

import (
	"testing"

	"github.com/gorilla/websocket"
)

// FuzzBoundary: however frames are cut into reads, the boundary is where
// gorilla has nothing left, and no call takes bytes of two frames.
func FuzzBoundary(f *testing.F) {
	f.Add([]byte("\x81\x80abcd\x89\x83abcdxyz\x81\xfe\x00\x80abcd"), uint8(3))
	f.Add([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 0x88, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint8) {
		var b boundary
		rest := data
		for len(rest) > 0 {
			n := b.pass(rest[:min(len(rest), 1+int(chunk))])
			if n == 0 {
				t.Fatal("no way on")
			}
			rest = rest[n:]
		}
		// The same in one go, frame by frame.
		var all boundary
		for rest = data; len(rest) > 0; {
			if !all.between() {
				t.Fatal("a call ended within a frame that goes on")
			}
			size, payload := header(rest)
			n := all.pass(rest)
			if len(rest) >= size && uint64(len(rest)-size) >= payload && (n != size+int(payload) || !all.between()) {
				t.Fatalf("%d bytes of a frame of %d", n, size+int(payload))
			}
			rest = rest[n:]
		}
		if b.left != all.left || b.got != all.got {
			t.Fatalf("in pieces %+v, at once %+v", b, all)
		}
	})
}

// FuzzTakeControl: what is taken for a ping or a pong is what gorilla would.
func FuzzTakeControl(f *testing.F) {
	f.Add([]byte("\x89\x83abcdxyz"))
	f.Add([]byte("\x8a\x80abcd"))
	f.Add([]byte("\x89\x03xyz"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, ping, payload := takeControl(data)
		if size == 0 {
			return
		}
		var pings, pongs []string
		ws := readerOf(t, data[:size])
		ws.SetPingHandler(func(s string) error { pings = append(pings, s); return nil })
		ws.SetPongHandler(func(s string) error { pongs = append(pongs, s); return nil })
		if _, _, err := ws.NextReader(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
			t.Fatalf("gorilla: %v", err)
		}
		if ping && (len(pings) != 1 || pings[0] != payload) || !ping && len(pongs) != 1 {
			t.Fatalf("ping %v %q, gorilla: pings %q, pongs %q", ping, payload, pings, pongs)
		}
	})
}

func TestHeaderOfAFrame(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 127, 0xffff, 0x10000, 1 << 20} {
		h := appendHeader(nil, finalText, n)
		size, payload := header(h)
		if size != len(h) || payload != uint64(n) || h[0] != finalText {
			t.Errorf("a payload of %d: % x is read as a header of %d and a payload of %d", n, h, size, payload)
		}
	}
}
