package testkit_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestLogIsWrittenByManyAndReadMeanwhile(t *testing.T) {
	t.Parallel()
	var l testkit.Log
	log := l.Logger(slog.LevelInfo)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 100 {
				log.Info("written")
				log.Debug("not written")
			}
		})
	}
	testkit.Eventually(t, "all is written", func() bool { return l.Count("msg=written") == 800 })
	writers.Wait()
	if n := l.Count("not written"); n != 0 {
		t.Errorf("%d lines below the level: %s", n, l.String())
	}
}
