package inbox

import (
	"testing"
	"time"
)

func TestWritersAreWokenLateOnlyUnderLoad(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		backlog int
		oldest  time.Duration
		given   int
		since   time.Duration
		want    time.Duration
	}{
		"nothing waits for the store":            {0, 0, 1, ms, 0},
		"few wait, for a slow disk":              {5, 20 * ms, 1, ms, 0},
		"many wait, not for long":                {1000, 3 * ms, 100, ms, 0},
		"a single message beside a queue":        {1000, 40 * ms, 1, 100 * ms, 0},
		"under full load":                        {1600, 20 * ms, 1, 25 * time.Microsecond, 5 * ms},
		"under full load, when the store stands": {16384, time.Minute, 64, ms, 10 * ms},
	} {
		if got := pause(c.backlog, c.oldest, c.given, c.since); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
