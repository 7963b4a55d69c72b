//go:build linux || darwin || freebsd

package ops

import "syscall"

// DiskFree is how many bytes the disk of a path has left.
func DiskFree(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:gosec,unconvert // their types differ between systems
}
