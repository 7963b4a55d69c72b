package wsconn

import (
	"errors"
	"syscall"
)

// canRead: [readSocket] works here.
const canRead = true

func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
