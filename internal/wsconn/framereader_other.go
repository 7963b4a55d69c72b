//go:build !linux

package wsconn

import "errors"

const canRead = false

func readSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
