package wsconn

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// loop says the same again and again.
type loop struct{ whole, rest []byte }

func (l *loop) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		l.rest = l.whole
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// counter is a handler that writes one text each time.
type counter struct {
	text     []byte
	messages int
}

func (c *counter) Message(int, []byte)  { c.messages++ }
func (c *counter) TooLarge()            {}
func (c *counter) Write(w Writer) error { return w.Text(c.text) }
func (c *counter) ReadClosed()          {}
func (c *counter) Closed()              {}

const someText = `{"id":"018f6f2a-6f0e-7c3a-9d55-2b1f0f6d8a11","type":"user_message","payload":{"text":"the build is green, shall I deploy?"}}`

// onTape is a connection that reads the same message for ever.
func onTape(tb testing.TB) (*Conn, *counter) {
	tb.Helper()
	h := &counter{text: []byte(someText)}
	u := NewUpgrader(Options{Limit: 1 << 20, WriteTimeout: timeout, CloseTimeout: timeout})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = upgradeHeader()
	c, err := u.Upgrade(&hijacked{httptest.NewRecorder(), &tape{in: &loop{whole: clientFrame(finalText, someText)}}}, r, h)
	check(tb, err)
	return c, h
}

// BenchmarkText compares what writes a text frame here with gorilla's
// WriteMessage, with a pool of write buffers as the upgrader has it.
func BenchmarkText(b *testing.B) {
	c, h := onTape(b)
	b.Run("wsconn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			check(b, Writer{c}.Text(h.text))
			check(b, Writer{c}.Flush())
		}
	})
	b.Run("gorilla", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Writer{c}.begin()
			check(b, c.ws.WriteMessage(websocket.TextMessage, h.text))
			check(b, Writer{c}.Flush())
		}
	})
}

// BenchmarkReserveStack is a new goroutine that goes as deep as a round of the
// writer does.
func BenchmarkReserveStack(b *testing.B) {
	for name, begin := range map[string]func(){"reserved": reserveStack, "as it grows": func() {}} {
		b.Run(name, func(b *testing.B) {
			var done sync.WaitGroup
			for b.Loop() {
				done.Go(func() {
					begin()
					deep(roundDepth, [96]byte{})
				})
				done.Wait()
			}
		})
	}
}

// roundDepth is how many calls of deep take the stack that a round takes.
const roundDepth = 11

//go:noinline
func deep(calls int, frame [96]byte) byte {
	if calls == 0 {
		return frame[0]
	}
	frame[calls]++
	return deep(calls-1, frame) + frame[1]
}
