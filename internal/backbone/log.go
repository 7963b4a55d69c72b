package backbone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// levelDetail is below slog's debug level: nats-server's own debug lines are
// of interest only to those who look for a fault in it.
const levelDetail = slog.LevelDebug - 4

// message is that of all records, so that they can be told apart and counted;
// what nats-server says is in the attribute "text".
const message = "nats-server"

// bridge is nats-server's logger. Notices, two dozen at every start, become
// debug records: what matters of them to an operator of RCCS, RCCS logs
// itself. Traces, which hold payloads and credentials, are dropped.
type bridge struct {
	log   *slog.Logger
	fatal *fatalError
}

var _ server.Logger = (*bridge)(nil)

func debugEnabled(log *slog.Logger) bool { return log.Enabled(context.Background(), levelDetail) }

func (b *bridge) write(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if b.log.Enabled(ctx, level) {
		b.log.Log(ctx, level, message, "text", fmt.Sprintf(format, v...))
	}
}

func (b *bridge) Noticef(format string, v ...any) { b.write(slog.LevelDebug, format, v) }

// Warnf passes a warning on, but for those of a store that was not closed, which
// [Server.Start] sums up.
func (b *bridge) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if isRecovery(fmt.Sprintf(format, v...)) {
		level = slog.LevelDebug
	}
	b.write(level, format, v)
}

func (b *bridge) Errorf(format string, v ...any) { b.write(slog.LevelError, format, v) }
func (b *bridge) Debugf(format string, v ...any) { b.write(levelDetail, format, v) }
func (b *bridge) Tracef(string, ...any)          {}

// Fatalf is where the stock logger ends the process. Here nats-server returns
// from its start, and [Server.Start] hands the reason to its caller.
func (b *bridge) Fatalf(format string, v ...any) {
	b.fatal.set(fmt.Sprintf(format, v...))
	b.write(slog.LevelError, format, v)
}

// fatalError keeps the first of nats-server's fatal errors.
type fatalError struct {
	mu   sync.Mutex
	text string
}

func (f *fatalError) set(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		f.text = text
	}
}

func (f *fatalError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		return nil
	}
	return errors.New(f.text)
}
