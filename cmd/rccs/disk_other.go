//go:build !linux && !darwin && !freebsd

package main

import "errors"

// diskFree is not known here.
func diskFree(string) (uint64, error) {
	return 0, errors.New("this system does not tell how much the disk has left")
}
