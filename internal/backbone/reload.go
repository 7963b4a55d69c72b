package backbone

import (
	"errors"
	"strings"
)

// Reload reads the nats.conf again, and with it the certificates that it
// names, and applies what changed. Clients stay connected, and keep the TLS
// session that they have; only new connections see a new certificate. On an
// error all stays as it was: a setting that nats-server cannot change while it
// runs refuses the whole.
func (s *Server) Reload() error {
	srv := s.running()
	if srv == nil {
		return ErrNotRunning
	}
	opts, _, err := s.opts.parse()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	opts.AccountResolver = s.resolver
	if err := srv.ReloadOptions(opts); err != nil {
		// nats-server shows what a setting was and would be: a key, perhaps.
		what, _, _ := strings.Cut(err.Error(), ": old=")
		return errors.New("backbone: nats.conf was read and not applied: " + what + " (put it back, or restart to apply it)")
	}
	return nil
}
