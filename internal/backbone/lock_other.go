//go:build !unix

package backbone

// dirLock does nothing where there is no flock: there the operator must see to
// it that no two processes use one data directory.
type dirLock struct{}

func lockDir(string) (*dirLock, error) { return &dirLock{}, nil }

func (*dirLock) open() {}

func (*dirLock) unclean() (process, machine bool) { return false, false }

func (*dirLock) release() {}
