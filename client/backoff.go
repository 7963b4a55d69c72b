package client

import (
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two tries.
const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// stableAfter is how long a connection must have lived for the next one
	// to be tried at once again: a loop of connections that end immediately
	// must slow down.
	stableAfter = 5 * time.Second
	// servedTry is where the waits go on after a connection that was registered
	// and did not live so long: at most a second.
	servedTry = 3
)

// backoff is how long to wait before the try: none before the first, then a
// random part of a bound that doubles up to 10 s. The full range is used
// (full jitter) because all devices of an edge lose it at the same moment.
func backoff(try int) time.Duration {
	if try <= 0 {
		return 0
	}
	bound := maxBackoff
	if shift := try - 1; shift < 7 {
		bound = min(bound, firstBackoff<<shift)
	}
	return rand.N(bound) //nolint:gosec // it spreads load, and nothing has to be unguessable
}
