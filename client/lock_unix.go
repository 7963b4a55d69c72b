//go:build unix

package client

import (
	"os"
	"syscall"
)

// lockFile keeps other processes from locking the file until it is closed.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
