//go:build unix

package backbone

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// dirLock keeps other processes, and other servers in this one, out of a data
// directory: nats-server itself would let two of them spoil the store. The
// system releases it when the process ends, in whatever way.
//
// While a server has the store open, the file says since which boot of the
// machine, so that the next one learns of a stop that was not clean.
type dirLock struct {
	file   *os.File
	before string // what the file said when it was locked; "" after a clean stop
	opened bool
}

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "nats.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("backbone: data directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		before, _ := io.ReadAll(io.LimitReader(file, maxBootID)) // for a message only
		return &dirLock{file: file, before: string(before)}, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("backbone: data directory %s is %w: stop that one, or name another directory", dir, ErrServed)
	}
	return nil, fmt.Errorf("backbone: lock %s: %w", path, err)
}

// open says that the store is open from here on until release.
func (l *dirLock) open() {
	l.opened = true
	_ = l.file.Truncate(0) // for a message only
	_, _ = l.file.WriteAt([]byte(bootID()), 0)
}

// unclean reports whether the last process to have the store open did not close
// it, and whether the machine went down with it.
func (l *dirLock) unclean() (process, machine bool) {
	return l.before != "", l.before != "" && l.before != bootID()
}

// maxBootID is more than a boot's id has bytes.
const maxBootID = 128

// bootID is an id of the machine's boot, where the system has one.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown\n"
	}
	return string(id)
}

// release may be called on nil. The file stays: to remove it would let two
// processes hold locks on two files of the same name.
func (l *dirLock) release() {
	if l != nil {
		if l.opened {
			_ = l.file.Truncate(0)
		}
		_ = l.file.Close()
	}
}
