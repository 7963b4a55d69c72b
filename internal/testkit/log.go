package testkit

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// Log is an [io.Writer] that a test reads while others write it: the log of a
// part, or what a process prints. Its zero value is empty and ready.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all that has been written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count is how often a text has been written.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Logger writes to the log, from a level on.
func (l *Log) Logger(from slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: from}))
}
