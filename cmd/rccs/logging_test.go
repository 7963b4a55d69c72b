package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestTheLogsLevelAndFormatAreChosenAndTheLevelChanges(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	var signals chan<- os.Signal
	env := console{}.environment(nil, nil, &text)
	env.verbose = func(to chan<- os.Signal) { signals = to }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := env.logging(ctx, &logFlags{level: "warn", format: formatText})
	log.Info("not told")
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelWarn} {
		signals <- syscall.SIGUSR1
		testkit.Eventually(t, level.String(), func() bool { return log.Enabled(ctx, level) && !log.Enabled(ctx, level-1) })
	}
	log.Warn("told", "n", 1)
	if got := text.String(); strings.Contains(got, "not told") || !strings.Contains(got, "level=WARN msg=told n=1") {
		t.Errorf("logged %q", got)
	}
}

// What a person needs at the start is the last that is printed, and short.
func TestTheStartFitsTenLines(t *testing.T) {
	t.Parallel()
	i := serve(t, "--log-format", "text")
	i.await("^  .* send alice/phone hello")
	if said := i.stderr(); strings.Contains(said, "created") || strings.Count(said, "\n") > 1 {
		t.Errorf("logged at the start: %s", said)
	}
	console{}.run(t, "serve", "--log-format", "xml").refused(t, exitUsage, "--log-format", "text", "json")
	console{}.run(t, "edge", "--log-level", "loud").refused(t, exitUsage, "--log-level", "debug")
}
