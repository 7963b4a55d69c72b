package backbone

import "errors"

// ErrServed says that another process has the data directory open.
var ErrServed = errors.New("already being served by another process")

// CheckServed reports, as an error that wraps [ErrServed], that another process
// has the data directory open. It is meant for messages: a server that starts
// afterwards finds out by itself.
func CheckServed(dir string) error {
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	lock.release()
	return nil
}
