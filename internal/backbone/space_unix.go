//go:build linux || darwin || freebsd

package backbone

import "syscall"

// diskSpace is what a disk has left, and how large it is.
func diskSpace(dir string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	size := uint64(s.Bsize)                                      //nolint:gosec // never negative
	return uint64(s.Bavail) * size, uint64(s.Blocks) * size, nil //nolint:unconvert // likewise
}
