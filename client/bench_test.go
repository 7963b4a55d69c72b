package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/wire"
)

// bench connects a client to an edge that runs script for its only connection.
func bench(b *testing.B, opts client.Options, script func(ws *websocket.Conn)) *client.Client {
	b.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"rccs.v1"}, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = ws.Close() }()
		challenge := wire.Challenge{Nonce: "n"}
		_ = ws.WriteMessage(websocket.TextMessage, challenge.Append(nil, "s"))
		_, _, _ = ws.ReadMessage()
		registered := wire.Registered{SessionID: "s", Window: 4096, MaxMessageBytes: 1 << 20}
		_ = ws.WriteMessage(websocket.TextMessage, registered.Append(nil))
		script(ws)
	}))
	b.Cleanup(server.Close)
	opts.Token = "t"
	c, err := client.Dial(b.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), &opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// limit is how many messages a second one connection is to carry.
const limit = 100_000

// rate reports how many messages a second it was, and how many times the
// limit. The other side, in the same process and on the same cores, is in it.
func rate(b *testing.B) {
	b.Helper()
	perSecond := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(perSecond, "msgs/s")
	b.ReportMetric(perSecond/limit, "x-limit")
}

// BenchmarkReceive is a message received and acknowledged, sent in frames of
// so many.
func BenchmarkReceive(b *testing.B) {
	for _, batch := range []uint64{1, 32} {
		b.Run(fmt.Sprintf("frames of %d", batch), func(b *testing.B) {
			var acked atomic.Uint64
			more := make(chan struct{}, 1)
			c := bench(b, client.Options{NoReconnect: true}, func(ws *websocket.Conn) {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					var seqs []uint64
					for {
						_, frame, err := ws.ReadMessage()
						if err != nil {
							return
						}
						items, _ := wire.DecodeFrame(nil, frame)
						for i := range items {
							a, _ := wire.DecodeAck(seqs[:0], items[i].Payload)
							seqs = a.Seqs
							acked.Add(uint64(len(a.Seqs)))
						}
						select {
						case more <- struct{}{}:
						default:
						}
					}
				}()
				payload := []byte(`"` + strings.Repeat("x", 254) + `"`)
				var frame []byte
				for seq := uint64(1); ; {
					for seq > acked.Load()+4096-batch {
						select {
						case <-more:
						case <-ended:
							return
						}
					}
					frame = append(frame[:0], '[')
					for n := range batch {
						if n > 0 {
							frame = append(frame, ',')
						}
						e := wire.Envelope{ID: fmt.Sprintf("message-%d", seq), Type: "note", FromDeviceID: "desk", UserID: "alice", Seq: seq, Priority: 1, Timestamp: "2025-01-31T12:00:00.000Z", Payload: payload}
						frame = e.Append(frame)
						seq++
					}
					if ws.WriteMessage(websocket.TextMessage, append(frame, ']')) != nil {
						break
					}
				}
				<-ended
			})
			b.ReportAllocs()
			for b.Loop() {
				m, err := c.Receive(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				m.Ack()
			}
			rate(b)
		})
	}
}

// BenchmarkSendNoWait is a message sent without an answer, BenchmarkSend one with,
// from 64 goroutines.
func BenchmarkSendNoWait(b *testing.B) {
	c := bench(b, client.Options{NoReconnect: true}, func(ws *websocket.Conn) {
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
		}
	})
	e := wire.NewEnvelope("", "note", []byte(`"`+strings.Repeat("x", 254)+`"`))
	b.ReportAllocs()
	for b.Loop() {
		e.ID = ""
		if err := c.SendNoWait(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	rate(b)
}

func BenchmarkSend(b *testing.B) {
	c := bench(b, client.Options{NoReconnect: true}, func(ws *websocket.Conn) {
		var out []byte
		for {
			_, frame, err := ws.ReadMessage()
			if err != nil {
				return
			}
			items, _ := wire.DecodeFrame(nil, frame)
			out = append(out[:0], '[')
			for i := range items {
				if i > 0 {
					out = append(out, ',')
				}
				a := wire.Accepted{OriginalID: items[i].ID, Recipients: []wire.Recipient{{DeviceID: "desk", Seq: 7}}}
				out = a.Append(out)
			}
			if ws.WriteMessage(websocket.TextMessage, append(out, ']')) != nil {
				return
			}
		}
	})
	e := wire.NewEnvelope("", "note", []byte(`"`+strings.Repeat("x", 254)+`"`))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Send(b.Context(), e); err != nil {
				b.Error(err)
				return
			}
		}
	})
	rate(b)
}
