//go:build !linux

package edge

import "errors"

// lot is only made on Linux: elsewhere a connection keeps its read loop.
type lot struct{}

func openLot() (*lot, error) { return nil, nil } //nolint:nilnil // nothing is wrong

func (l *lot) close() {}

func (l *lot) park(*conn, bool) error { return errors.ErrUnsupported }

func (l *lot) leave(*conn) {}
