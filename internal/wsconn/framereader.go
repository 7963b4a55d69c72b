package wsconn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// readAheadBytes is how much one read of a socket may bring.
const readAheadBytes = 4 << 10

// readAheads are shared by all connections: one is held only from when bytes
// have come until they are dealt with.
var readAheads = sync.Pool{New: func() any { return new([readAheadBytes]byte) }}

// errIdle: nothing has come.
var errIdle = errors.New("wsconn: nothing to read")

// frameReader is the reading side of a plain socket. It waits without a buffer,
// and one read never returns bytes of two frames. So when gorilla has read a
// frame to its end it holds nothing of the next one, and the connection can be
// suspended.
//
// All but the deadline belongs to the read loop.
type frameReader struct {
	nc   net.Conn
	raw  syscall.RawConn
	once func(fd uintptr) bool // reads the socket, bound once

	frame boundary
	buf   *[readAheadBytes]byte // nil when it holds nothing
	data  []byte                // what of buf is not given out
	block bool                  // once waits for the socket
	err   error                 // what once found

	deadline    sync.Mutex
	until       *time.Time // as it was set; nil: none
	interrupted bool       // a past deadline stands in its place
}

// newFrameReader returns nil when the socket cannot be read like this.
func newFrameReader(nc net.Conn) *frameReader {
	plain, ok := nc.(syscall.Conn)
	if !ok || !canRead {
		return nil
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return nil
	}
	in := &frameReader{nc: nc, raw: raw}
	in.once = in.readOnce
	return in
}

// await returns when a message has begun, or a malformed frame. Pings and pongs
// before it are handled here. Without block it does not wait but returns
// errIdle, which is also what an interrupt makes of a wait.
func (in *frameReader) await(block bool, onPing func(payload string) error, onPong func(string) error) error {
	for {
		for len(in.data) > 0 && in.frame.between() {
			size, ping, payload := takeControl(in.data)
			if size == 0 {
				break
			}
			on := onPong
			if ping {
				on = onPing
			}
			if err := on(payload); err != nil {
				return err
			}
			in.drop(size)
		}
		if len(in.data) > 0 || !in.frame.between() {
			return nil
		}
		err := in.fill(block)
		if in.wasInterrupted(err) {
			return errIdle
		}
		if err != nil {
			return err
		}
	}
}

// read is net.Conn's Read.
func (in *frameReader) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(in.data) == 0 {
		if in.frame.left >= readAheadBytes && len(p) >= readAheadBytes {
			n, err := in.nc.Read(p[:min(uint64(len(p)), in.frame.left)])
			if n == 0 && in.wasInterrupted(err) {
				continue
			}
			in.frame.pass(p[:n])
			return n, err
		}
		if err := in.fill(true); err != nil && !in.wasInterrupted(err) {
			return 0, err
		}
	}
	n := in.frame.pass(in.data[:min(len(p), len(in.data))])
	copy(p, in.data[:n])
	in.drop(n)
	return n, nil
}

// fill reads the socket. It holds no buffer while it waits.
func (in *frameReader) fill(block bool) error {
	in.block, in.err = block, nil
	if err := in.raw.Read(in.once); err != nil {
		return err
	}
	return in.err
}

// readOnce is called when the socket may have something. It returns false to
// wait until it has.
func (in *frameReader) readOnce(fd uintptr) bool {
	buf := readAheads.Get().(*[readAheadBytes]byte)
	n, err := readSocket(fd, buf[:])
	if err == nil && n > 0 {
		in.buf, in.data = buf, buf[:n]
		return true
	}
	readAheads.Put(buf)
	switch {
	case err == nil:
		in.err = io.EOF
	case !errors.Is(err, syscall.EAGAIN):
		in.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	case in.block:
		return false
	default:
		in.err = errIdle
	}
	return true
}

// drop forgets the first n bytes, which were given out.
func (in *frameReader) drop(n int) {
	if in.data = in.data[n:]; len(in.data) == 0 && in.buf != nil {
		readAheads.Put(in.buf)
		in.buf, in.data = nil, nil
	}
}

// setDeadline is net.Conn's SetReadDeadline.
func (in *frameReader) setDeadline(t time.Time) error {
	in.deadline.Lock()
	defer in.deadline.Unlock()
	in.until, in.interrupted = nil, false
	if !t.IsZero() {
		until := t // t itself stays on the stack
		in.until = &until
	}
	return in.nc.SetReadDeadline(t)
}

// past is a deadline that ends a wait at once.
var past = time.Unix(1, 0)

// interrupt ends the wait of the read loop, if the wait has no deadline of its
// own. Any goroutine may call it.
func (in *frameReader) interrupt() {
	in.deadline.Lock()
	defer in.deadline.Unlock()
	if in.until == nil && !in.interrupted {
		in.interrupted = true
		_ = in.nc.SetReadDeadline(past)
	}
}

// wasInterrupted reports whether err comes from an interrupt, and makes the
// socket usable again. A deadline may have been set in its place meanwhile.
func (in *frameReader) wasInterrupted(err error) bool {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	in.deadline.Lock()
	defer in.deadline.Unlock()
	if in.interrupted {
		in.interrupted = false
		_ = in.nc.SetReadDeadline(time.Time{})
		return true
	}
	return in.until == nil || time.Now().Before(*in.until)
}
