//go:build !linux && !darwin && !freebsd

package ops

import "errors"

// DiskFree is not known here.
func DiskFree(string) (uint64, error) {
	return 0, errors.New("this system does not tell how much the disk has left")
}
