package backbone

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
)

// recoveries are what nats-server warns of when it opens a store that was not
// closed, and has lost nothing: an index lags behind its messages and is made
// anew from them.
var recoveries = []string{
	"Stream state outdated,", "state is outdated; attempting to recover", "Stream state detected prior state,",
	"Stream state block does not exist or index mismatch",
	// Follow what said why: one of the above, or a warning of its own.
	"Recovering stream state from index errored: prior state file", "Recovering stream state from index errored: corrupt state file",
}

// isRecovery reports whether a text of nats-server's is one of recoveries.
func isRecovery(text string) bool {
	for _, part := range recoveries {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// troubles counts the warnings and errors that a logger has passed on.
type troubles struct {
	slog.Handler
	n *atomic.Int64
}

// watchLog has a logger count its warnings and errors from here on.
func watchLog(log **slog.Logger) *troubles {
	t := &troubles{(*log).Handler(), new(atomic.Int64)}
	*log = slog.New(t)
	return t
}

// Handle implements slog.Handler.
func (t *troubles) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		t.n.Add(1)
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t *troubles) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &troubles{t.Handler.WithAttrs(attrs), t.n}
}

// WithGroup implements slog.Handler.
func (t *troubles) WithGroup(name string) slog.Handler {
	return &troubles{t.Handler.WithGroup(name), t.n}
}

// tellRecovery says, once the store is open, how the last process left it, in
// place of what nats-server says of that.
func (s *Server) tellRecovery(t *troubles) {
	switch process, machine := s.lock.unclean(); {
	case !process:
	case t.n.Load() > 0:
		s.log.Warn("recovered after an unclean stop, with trouble: see the warnings before this, and 'rccs doctor'")
	case machine:
		s.log.Warn("recovered after the machine went down: what was accepted in the last sync_interval may be lost where there is one copy")
	default:
		s.log.Info("recovered after an unclean stop, nothing accepted was lost")
	}
}
