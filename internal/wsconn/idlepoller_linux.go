package wsconn

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// idlePoller watches the sockets of suspended connections and resumes each when
// something comes. It is an epoll set of our own; its one goroutine waits for
// the set as for a socket.
//
// It is safe for concurrent use. A socket that is closed leaves it by itself.
type idlePoller struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}

	mu      sync.Mutex
	watched map[uint64]*Conn // by id
}

// wanted are the events of a suspended socket. One is told, once.
const wanted = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func openIdlePoller() (*idlePoller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wsconn: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else os would not wait for it, but block in it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("wsconn: %w", os.NewSyscallError("fcntl", err))
	}
	p := &idlePoller{file: os.NewFile(uintptr(fd), "idle connections"), done: make(chan struct{}), watched: make(map[uint64]*Conn)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("wsconn: %w", err)
	}
	go p.run()
	return p, nil
}

// close ends the poller and waits for its goroutine. What is suspended stays so.
func (p *idlePoller) close() {
	_ = p.file.Close()
	<-p.done
}

// watch has c resumed when its socket has something, or has ended; that may be
// before watch returns. again: it was watched before.
func (p *idlePoller) watch(c *Conn, again bool) error {
	p.mu.Lock()
	p.watched[c.id] = c
	p.mu.Unlock()
	op := syscall.EPOLL_CTL_ADD
	if again {
		op = syscall.EPOLL_CTL_MOD
	}
	event := syscall.EpollEvent{Events: wanted, Fd: int32(uint32(c.id)), Pad: int32(uint32(c.id >> 32))} //nolint:gosec // the two halves of the id
	var failed error
	err := p.raw.Control(func(set uintptr) {
		err := c.nc.reader.raw.Control(func(fd uintptr) {
			failed = os.NewSyscallError("epoll_ctl", syscall.EpollCtl(int(set), op, int(fd), &event))
		})
		if failed == nil {
			failed = err
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		p.forget(c)
	}
	return err
}

// forget ends the watch of c.
func (p *idlePoller) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watched, c.id)
}

// run returns when the poller is closed.
func (p *idlePoller) run() {
	defer close(p.done)
	events := make([]syscall.EpollEvent, 256)
	var n int
	wait := func(fd uintptr) bool {
		var err error
		n, err = syscall.EpollWait(int(fd), events, 0)
		return n > 0 || err != nil
	}
	for p.raw.Read(wait) == nil {
		for i := range max(n, 0) {
			p.mu.Lock()
			c := p.watched[uint64(uint32(events[i].Fd))|uint64(uint32(events[i].Pad))<<32] //nolint:gosec // the two halves of the id
			p.mu.Unlock()
			if c != nil {
				c.resume()
			}
		}
	}
}
