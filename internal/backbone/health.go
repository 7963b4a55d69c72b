package backbone

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// healthTries is how often nats-server may say that it takes no connections:
// it gives itself 1 ms to find out, which on a busy machine passes before it
// has looked.
const healthTries = 5

// beingMade is for how long the directory of a stream may be there without the
// stream. While it makes or deletes one, as for a tenant, nats-server says that the
// stream could not be recovered.
const beingMade = 5 * time.Second

// Healthy is nil while clients can connect and JetStream, with all its
// streams, is in working order. Otherwise the error says what is not. It looks
// at the store's directories, so ask a few times a second at most.
func (s *Server) Healthy() error {
	srv := s.running()
	if srv == nil {
		return ErrNotRunning
	}
	var h *server.HealthStatus
	for range healthTries {
		if h = srv.Healthz(nil); h.StatusCode != http.StatusInternalServerError {
			break
		}
	}
	if h.Error == "" {
		return nil
	}
	all := srv.Healthz(&server.HealthzOptions{Details: true})
	for _, e := range all.Errors {
		if e.Type != server.HealthzErrorStream || !s.changing(e.Account, e.Stream) {
			return fmt.Errorf("backbone: %s", e.Error)
		}
	}
	if len(all.Errors) == 0 && all.StatusCode != http.StatusOK {
		return fmt.Errorf("backbone: %s", h.Error)
	}
	return nil
}

// changing reports whether a stream's directory is new, or was changed a moment
// ago, or is gone by now.
func (s *Server) changing(account, stream string) bool {
	info, err := os.Stat(filepath.Join(s.opts.Dir, server.JetStreamStoreDir, account, "streams", stream))
	return os.IsNotExist(err) || err == nil && time.Since(info.ModTime()) < beingMade
}
