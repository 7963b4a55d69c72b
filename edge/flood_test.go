package edge_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/need"
)

// floods are, by what a device may ask on a WebSocket, frames of it. Those of
// "odd" are refused.
var floods = map[string]func(n int) string{
	"ack":         func(n int) string { return fmt.Sprintf(`{"type":"ack","payload":{"upTo":%d}}`, n+1) },
	"cancel":      func(n int) string { return fmt.Sprintf(`{"type":"ack","id":"c%d","payload":{"cancel":"x%d"}}`, n, n) },
	"reject":      func(n int) string { return fmt.Sprintf(`{"type":"ack","payload":{"reject":{"seq":%d}}}`, n+1) },
	"heartbeat":   func(n int) string { return fmt.Sprintf(`{"type":"heartbeat","id":"h%d"}`, n) },
	"device_list": func(n int) string { return fmt.Sprintf(`{"type":"device_list","id":"l%d"}`, n) },
	"device_status": func(n int) string {
		return fmt.Sprintf(`{"type":"device_status","id":"s%d","payload":{"status":"%s"}}`, n, []string{"busy", "online"}[n%2])
	},
	"subscribe": func(n int) string {
		return fmt.Sprintf(`{"type":"subscribe","id":"t%d","payload":{"topic":"t%d","since":0}}`, n, n%100)
	},
	"unsubscribe": func(n int) string {
		return fmt.Sprintf(`{"type":"unsubscribe","id":"u%d","payload":{"topic":"t%d"}}`, n, n%100)
	},
	"publish": func(n int) string {
		return fmt.Sprintf(`{"type":"publish","id":"p%d","payload":{"topic":"t0","data":%d}}`, n, n)
	},
	"history": func(n int) string {
		return fmt.Sprintf(`{"type":"history","id":"y%d","payload":{"inbox":true,"from":0}}`, n)
	},
	"topic history": func(n int) string {
		return fmt.Sprintf(`{"type":"history","id":"z%d","payload":{"topic":"t0","from":0}}`, n)
	},
	"request": func(n int) string {
		return fmt.Sprintf(`{"type":"request","id":"q%d","toDeviceId":"silent","payload":{"method":"m"}}`, n)
	},
	"request nobody": func(n int) string {
		return fmt.Sprintf(`{"type":"request","id":"r%d","toDeviceId":"nobody","payload":{"method":"m"}}`, n)
	},
	"response": func(n int) string {
		return fmt.Sprintf(`{"type":"response","id":"v%d","correlationId":"x%d","payload":{"result":1}}`, n, n)
	},
	"message": func(n int) string {
		return fmt.Sprintf(`{"type":"note","id":"m%d","toDeviceId":"silent","payload":%d}`, n, n)
	},
	"to all": func(n int) string { return fmt.Sprintf(`{"type":"note","id":"a%d","to":{},"payload":%d}`, n, n) },
	"delayed": func(n int) string {
		return fmt.Sprintf(`{"type":"note","id":"d%d","toDeviceId":"silent","deliverAt":"2099-01-01T00:00:00Z","payload":%d}`, n, n)
	},
	"to services": func(n int) string {
		return fmt.Sprintf(`{"type":"note","id":"w%d","to":{"service":true},"payload":%d}`, n, n)
	},
	"ephemeral": func(n int) string {
		return fmt.Sprintf(`{"type":"note","id":"e%d","toDeviceId":"silent","ephemeral":true,"payload":%d}`, n, n)
	},
	"odd": func(n int) string { return fmt.Sprintf(`{"type":"gap","id":"o%d","payload":{"x":[]}}`, n) },
}

// answered sends a frame, and waits for the envelope that is about its id.
func (d *device) answered(frame, id string) time.Duration {
	d.t.Helper()
	began := time.Now()
	d.Send(frame)
	for {
		if _, body := d.Next(); strings.Contains(body, `"`+id+`"`) {
			return time.Since(began)
		}
	}
}

// asks asks something of each kind that is answered, and returns what the slowest
// took.
func (d *device) asks(round string) (slowest time.Duration) {
	d.t.Helper()
	for kind, frame := range map[string]string{
		"heartbeat": `{"type":"heartbeat","id":"%s"}`, "list": `{"type":"device_list","id":"%s"}`,
		"publish":   `{"type":"publish","id":"%s","payload":{"topic":"own","data":1}}`,
		"history":   `{"type":"history","id":"%s","payload":{"inbox":true,"from":1,"limit":1}}`,
		"subscribe": `{"type":"subscribe","id":"%s","payload":{"topic":"own","since":0}}`,
		"message":   `{"type":"note","id":"%s","toDeviceId":"other","requiresAck":true,"payload":1}`,
		"request":   `{"type":"request","id":"%s","toDeviceId":"nobody","payload":{"method":"m"}}`,
	} {
		id := round + kind
		slowest = max(slowest, d.answered(fmt.Sprintf(frame, id), id))
	}
	return slowest
}

// flood sends frames of a kind until ctx ends, reading nothing that matters, and
// comes again when it is closed.
func (w *world) flood(ctx context.Context, name string, frame func(int) string) (sent int) {
	for n := 0; ctx.Err() == nil; {
		d := w.dial()
		w.register(d, name)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				if _, _, err := d.ReadMessage(); err != nil {
					return
				}
			}
		}()
		for ctx.Err() == nil {
			if d.WriteMessage(websocket.TextMessage, []byte(frame(n))) != nil {
				break
			}
			n++
		}
		sent = n
		_ = d.Close()
		<-gone
	}
	return sent
}

// A device that asks something as fast as it can, whatever it is, keeps neither
// another device of its user waiting nor one of another user.
func TestFloodOfAnythingOnAWebSocketKeepsNoOtherDeviceWaiting(t *testing.T) {
	need.Long(t, "it floods an edge in twenty ways")
	t.Parallel()
	for kind, frame := range floods { // one after the other: twenty at a time would keep each other waiting
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, nil)
			silent := w.dial()
			w.register(silent, "alice/silent")
			neighbour, stranger := w.dial(), w.dial()
			w.register(neighbour, "alice/neighbour")
			w.register(stranger, "bob/phone")
			for name, d := range map[string]*device{"neighbour": neighbour, "stranger": stranger} {
				if kind, body := d.Next(); kind != "ack" {
					t.Fatalf("%s: registered with %s %s", name, kind, body)
				}
			}
			before := max(neighbour.asks("a"), stranger.asks("a"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			sent := make(chan int, 1)
			var flooding sync.WaitGroup
			flooding.Go(func() { sent <- w.flood(ctx, "alice/flood", frame) })
			var meanwhile time.Duration
			for round := range 3 {
				meanwhile = max(meanwhile, neighbour.asks(fmt.Sprint("b", round)), stranger.asks(fmt.Sprint("b", round)))
			}
			stop()
			flooding.Wait()
			t.Logf("%d frames; the slowest answer of a neighbour took %s before and %s meanwhile", <-sent, before, meanwhile)
		})
	}
}
