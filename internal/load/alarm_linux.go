package load

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one caller when a time has come, to some microseconds. A
// [time.Timer] of a program that waits for sockets is up to a millisecond late,
// since the runtime waits in epoll_wait(2), which takes whole ones; at 2,000
// messages a second that would be most of what a message takes.
type alarm struct {
	file *os.File // a timerfd(2), which the runtime waits for as for a socket
	fd   int
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("load: %w", os.NewSyscallError("timerfd_create", err))
	}
	return &alarm{file: os.NewFile(uintptr(fd), "timerfd"), fd: fd}, nil
}

// wait returns when the time has passed, or after stop.
func (a *alarm) wait(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))} // 0 would disarm it
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("load: %w", os.NewSyscallError("timerfd_settime", err))
	}
	var times [8]byte
	if _, err := a.file.Read(times[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// stop ends a wait, and those to come.
func (a *alarm) stop() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) }

func (a *alarm) close() { _ = a.file.Close() }
