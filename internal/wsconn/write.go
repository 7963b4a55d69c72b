package wsconn

import (
	"runtime"
	"time"

	"github.com/gorilla/websocket"
)

// signOfLife is how long a write must have waited for the peer to make its end
// a proof that the peer is there.
const signOfLife = time.Second

// Writer writes frames. It is valid within [Handler.Write].
type Writer struct{ c *Conn }

// Text writes a text frame, or gathers it: see [Writer.Flush].
func (w Writer) Text(payload []byte) error {
	w.begin()
	return w.c.nc.text(payload)
}

// Flush writes what was gathered, in as few system calls as possible. It is
// called after Write in any case; a handler calls it to know what was written.
func (w Writer) Flush() error {
	c := w.c
	if c.writeBegan == 0 {
		return nil
	}
	err := c.nc.end()
	if err == nil && time.Since(started)-c.writeBegan > signOfLife {
		c.alive() // the peer took what it was sent
	}
	c.writeBegan = 0
	c.sending.Store(false)
	if err != nil {
		c.fail()
	}
	return err
}

// begin gathers what is written from now on.
func (w Writer) begin() {
	if w.c.writeBegan == 0 {
		w.c.writeBegan = time.Since(started)
		w.c.sending.Store(true)
		w.c.nc.begin(w.c.u.opts.WriteTimeout)
	}
}

func (w Writer) control(kind int, payload []byte) error {
	w.begin()
	return w.c.ws.WriteControl(kind, payload, started.Add(w.c.writeBegan+w.c.u.opts.WriteTimeout))
}

// controls are the frames of the connection itself that wait to be written.
type controls struct {
	ping   bool
	pong   *string
	close  bool
	code   int
	reason string
}

// write is the writer. It runs while there is something to write.
func (c *Conn) write() {
	reserveStack()
	for {
		waiting, more := c.take()
		if !more {
			return
		}
		if c.writeRound(waiting) != nil {
			c.Abort() // the read loop notices
		} else if waiting.close {
			c.fail() // nothing follows a close frame
		}
	}
}

// reserveStack has the stack of a new goroutine grow now, while there is nothing
// on it that would have to be moved. It would grow in the middle of every first
// round, some ten calls deep: twice the cost, by BenchmarkReserveStack.
//
//go:noinline
func reserveStack() {
	var room [1200]byte // with it the smallest stack, of 2 KiB, is too small
	runtime.KeepAlive(&room)
}

// take returns what waits; more is false when the writer must end.
func (c *Conn) take() (waiting controls, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := state(c.state.Load())
	if c.writer != writerWoken || now == closed {
		c.writer = writerAbsent
		c.writerDone.Broadcast()
		return controls{}, false
	}
	c.writer = writerBusy
	waiting = controls{ping: c.pingDue, pong: c.pong, close: now == closing, code: c.closeCode, reason: c.closeReason}
	c.pingDue, c.pong = false, nil
	return waiting, true
}

// writeRound writes what waits, the handler's in the middle.
func (c *Conn) writeRound(waiting controls) error {
	w := Writer{c}
	err := c.writeFrames(w, waiting)
	if flushed := w.Flush(); err == nil {
		err = flushed
	}
	return err
}

func (c *Conn) writeFrames(w Writer, waiting controls) error {
	if waiting.pong != nil {
		if err := w.control(websocket.PongMessage, []byte(*waiting.pong)); err != nil {
			return err
		}
	}
	if waiting.ping {
		if err := w.control(websocket.PingMessage, nil); err != nil {
			return err
		}
	}
	if err := c.h.Write(w); err != nil {
		return err
	}
	if waiting.close {
		return w.control(websocket.CloseMessage, websocket.FormatCloseMessage(waiting.code, waiting.reason))
	}
	return nil
}
