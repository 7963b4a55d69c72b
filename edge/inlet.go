package edge

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

// errIdle says that nothing has come.
var errIdle = errors.New("edge: nothing to read")

// inlet is the reading side of a plain socket. It waits without a buffer, and
// never gives out more than what is left of one frame: when the reader of
// frames has read one to its end it has nothing of the next, so that who
// follows it here knows when it needs nothing more.
//
// All but the deadline belongs to the connection's read loop.
type inlet struct {
	nc   net.Conn
	raw  syscall.RawConn
	once func(fd uintptr) bool // reads the socket, bound once

	frame boundary
	buf   *[readAheadBytes]byte // nil when it holds nothing
	data  []byte                // what of buf is not given out
	block bool                  // once waits for the socket
	err   error                 // what once found

	deadline sync.Mutex
	until    time.Time // as it was set; zero: none
	kicked   bool      // a past one stands in its place
}

// newInlet is nil when the socket cannot be read like this.
func newInlet(nc net.Conn) *inlet {
	plain, ok := nc.(syscall.Conn)
	if !ok || !canRead {
		return nil
	}
	raw, err := plain.SyscallConn()
	if err != nil {
		return nil
	}
	in := &inlet{nc: nc, raw: raw}
	in.once = in.readOnce
	return in
}

// await returns when there is something of a message, or of a frame that is not
// as it must be. What has come is dealt with before: pings and pongs. Without
// block it does not wait, but returns errIdle. It does so as well when it
// waited, and was kicked.
func (in *inlet) await(block bool, onPing func(payload string) error, onPong func(string) error) error {
	for {
		for len(in.data) > 0 && in.frame.between() {
			size, ping, payload := control(in.data)
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
		if in.wasKicked(err) {
			return errIdle
		}
		if err != nil {
			return err
		}
	}
}

// read is net.Conn's Read.
func (in *inlet) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(in.data) == 0 {
		if in.frame.left >= readAheadBytes && len(p) >= readAheadBytes {
			n, err := in.nc.Read(p[:min(uint64(len(p)), in.frame.left)])
			if n == 0 && in.wasKicked(err) {
				continue
			}
			in.frame.pass(p[:n])
			return n, err
		}
		if err := in.fill(true); err != nil && !in.wasKicked(err) {
			return 0, err
		}
	}
	n := in.frame.pass(in.data[:min(len(p), len(in.data))])
	copy(p, in.data[:n])
	in.drop(n)
	return n, nil
}

// fill reads the socket. It holds no buffer while it waits.
func (in *inlet) fill(block bool) error {
	in.block, in.err = block, nil
	if err := in.raw.Read(in.once); err != nil {
		return err
	}
	return in.err
}

// readOnce is called when the socket may have something; false to wait until
// it has.
func (in *inlet) readOnce(fd uintptr) bool {
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

// drop forgets what was given out.
func (in *inlet) drop(n int) {
	if in.data = in.data[n:]; len(in.data) == 0 && in.buf != nil {
		readAheads.Put(in.buf)
		in.buf, in.data = nil, nil
	}
}

// setDeadline is net.Conn's SetReadDeadline.
func (in *inlet) setDeadline(t time.Time) error {
	in.deadline.Lock()
	defer in.deadline.Unlock()
	in.until, in.kicked = t, false
	return in.nc.SetReadDeadline(t)
}

// long past, as the deadline that ends a wait.
var past = time.Unix(1, 0)

// kick ends the read loop's wait, if that has no deadline of its own. Anyone
// may call it.
func (in *inlet) kick() {
	in.deadline.Lock()
	defer in.deadline.Unlock()
	if in.until.IsZero() && !in.kicked {
		in.kicked = true
		_ = in.nc.SetReadDeadline(past)
	}
}

// wasKicked says that err is of a kick, and makes the socket usable again. It
// may be of one in whose place a deadline was set meanwhile.
func (in *inlet) wasKicked(err error) bool {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	in.deadline.Lock()
	defer in.deadline.Unlock()
	if in.kicked {
		in.kicked = false
		_ = in.nc.SetReadDeadline(in.until)
		return true
	}
	return in.until.IsZero() || time.Now().Before(in.until)
}
