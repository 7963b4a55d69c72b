//go:build unix

package backbone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dirLock keeps other processes, and other servers in this one, out of a data
// directory: nats-server itself would let two of them spoil the store. The
// system releases it when the process ends, in whatever way.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "nats.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("backbone: data directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &dirLock{file}, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("backbone: data directory %s is %w: stop that one, or name another directory", dir, ErrServed)
	}
	return nil, fmt.Errorf("backbone: lock %s: %w", path, err)
}

// release may be called on nil. The file stays: to remove it would let two
// processes hold locks on two files of the same name.
func (l *dirLock) release() {
	if l != nil {
		_ = l.file.Close()
	}
}
