package edge

import (
	"errors"
	"syscall"
)

// canRead says that [readSocket] works here.
const canRead = true

func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
