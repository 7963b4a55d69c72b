package wsconn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the peer has closed its end of a socket, whatever it
// sent before and nobody has read.
func hungUp(fd uintptr) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a descriptor
	for {
		n, err := unix.Poll(set, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}
