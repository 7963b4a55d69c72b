package backbone

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrBroken is wrapped by what [Server.Broken] returns.
var ErrBroken = errors.New("what is stored cannot be written any more")

// Broken returns why nats-server has given up writing its store: the disk was
// full, is read-only or failed, or a copy of a stream has lost its end, so that what
// comes next does not follow on it. It goes on with the rest and does not try again,
// so that only a restart mends it, when the cause is gone. The result is nil
// while the store is well, and when the server does not run.
func (s *Server) Broken() error {
	srv := s.running()
	if srv == nil {
		return nil
	}
	if !srv.JetStreamEnabled() {
		return fmt.Errorf("backbone: %w: nats-server has switched JetStream off (see its log); make room or mend the disk, and start again", ErrBroken)
	}
	h := srv.Healthz(&server.HealthzOptions{Details: true})
	for _, e := range h.Errors {
		if strings.Contains(e.Error, "write error") {
			do := "make room or mend the disk, and start again"
			if strings.Contains(e.Error, server.ErrSequenceMismatch.Error()) {
				do = "its files were damaged while the server ran; start again: what is missing comes from the other servers"
			}
			return fmt.Errorf("backbone: %w: %s; %s", ErrBroken, e.Error, do)
		}
	}
	return nil
}

// StoreLimit is how many bytes the server may store: max_file_store, or what
// nats-server makes of the disk. Zero when it does not run.
func (s *Server) StoreLimit() int64 {
	srv := s.running()
	if srv == nil || srv.JetStreamConfig() == nil {
		return 0
	}
	return srv.JetStreamConfig().MaxStore
}

// A start needs room for what it writes itself: less than that, and it would
// fail in the middle.
const (
	minRoom        = 32 << 20
	minRoomPercent = 5 // of a smaller disk
)

// CheckRoom refuses a disk that is so full that a server on it would break soon
// after its start. A directory that does not exist yet has no disk of its own,
// and is not looked at.
func CheckRoom(dir string) error {
	if free, total, need := room(dir); free < need {
		return fmt.Errorf("backbone: the disk of %s is full: %d KiB of %d MiB are free, and a start needs %d KiB", dir, free>>10, total>>20, need>>10)
	}
	return nil
}

// CheckRoomFor refuses a disk on which there is no room for so many bytes beside
// what a start needs.
func CheckRoomFor(dir string, bytes uint64) error {
	if free, total, need := room(dir); need > 0 && (free < need || free-need < bytes) {
		return fmt.Errorf("backbone: the disk of %s is too small: %d MiB of %d MiB are free, and %d MiB are needed", dir, free>>20, total>>20, need>>20+bytes>>20)
	}
	return nil
}

// room returns the bytes of a disk that are free, all of its bytes, and how many a
// start needs; all are 0 if that is not known. Opening the directory tells why.
func room(dir string) (free, total, need uint64) {
	free, total, err := diskSpace(dir)
	if err != nil {
		return 0, 0, 0
	}
	return free, total, min(minRoom, total/100*minRoomPercent)
}
