//go:build !linux

package wsconn

import "errors"

// idlePoller exists on Linux only: elsewhere a connection keeps its read loop.
type idlePoller struct{}

func openIdlePoller() (*idlePoller, error) { return nil, nil } //nolint:nilnil // nothing is wrong

func (p *idlePoller) close() {}

func (p *idlePoller) watch(*Conn, bool) error { return errors.ErrUnsupported }

func (p *idlePoller) forget(*Conn) {}
