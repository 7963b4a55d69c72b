package edge

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// lot watches the sockets of connections that have no read loop, because
// nothing came for a while, and has them go on when something comes. It is an
// epoll set of our own; its one goroutine waits for it as for a socket.
//
// It is safe for concurrent use. A socket that is closed leaves it by itself.
type lot struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}

	mu     sync.Mutex
	parked map[uint64]*conn // by id
}

// watched is what a parked socket has to wait for. It is told once.
const watched = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

func openLot() (*lot, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else os would not wait for it, but block in it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("edge: %w", os.NewSyscallError("fcntl", err))
	}
	l := &lot{file: os.NewFile(uintptr(fd), "idle connections"), done: make(chan struct{}), parked: make(map[uint64]*conn)}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		_ = l.file.Close()
		return nil, fmt.Errorf("edge: %w", err)
	}
	go l.run()
	return l, nil
}

// close ends the lot; what is parked stays so.
func (l *lot) close() {
	_ = l.file.Close()
	<-l.done
}

// park has c go on when its socket has something, or has ended; that may be
// before park returns. again says that it was parked before.
func (l *lot) park(c *conn, again bool) error {
	l.mu.Lock()
	l.parked[c.id] = c
	l.mu.Unlock()
	op := syscall.EPOLL_CTL_ADD
	if again {
		op = syscall.EPOLL_CTL_MOD
	}
	event := syscall.EpollEvent{Events: watched, Fd: int32(uint32(c.id)), Pad: int32(uint32(c.id >> 32))}
	var failed error
	err := l.raw.Control(func(set uintptr) {
		err := c.cork.inlet.raw.Control(func(fd uintptr) {
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
		l.leave(c)
	}
	return err
}

// leave forgets c.
func (l *lot) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parked, c.id)
}

// run returns when the lot is closed.
func (l *lot) run() {
	defer close(l.done)
	events := make([]syscall.EpollEvent, 256)
	var n int
	look := func(fd uintptr) bool {
		var err error
		n, err = syscall.EpollWait(int(fd), events, 0)
		return n > 0 || err != nil
	}
	for l.raw.Read(look) == nil {
		for i := range max(n, 0) {
			l.mu.Lock()
			c := l.parked[uint64(uint32(events[i].Fd))|uint64(uint32(events[i].Pad))<<32]
			l.mu.Unlock()
			if c != nil {
				c.unpark()
			}
		}
	}
}
