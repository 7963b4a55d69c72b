//go:build !linux

package wsconn

func hungUp(uintptr) bool { return false }
