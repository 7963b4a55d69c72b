// Package testkit is what tests of several packages share: waiting for a
// condition, a channel or a context with one bound for all of them; ending a
// test that cannot go on; a log that is read while it is written; and the
// program, built for a test that starts it.
//
// It imports nothing of RCCS and no NATS server, so that the tests of a leaf can
// use it. [internal/natstest] has what needs a server. Its functions are safe for
// concurrent use, except that those which end the test must be called from the
// test's own goroutine. It must not be imported by anything but tests.
package testkit

import (
	"context"
	"flag"
	"strconv"
	"testing"
	"time"
)

// Patience is how long anything in a test may take: far longer than it does,
// so that a test fails on a busy machine only if it would fail on any.
const Patience = 90 * time.Second

// poll is how often a condition is looked at.
const poll = 5 * time.Millisecond

// AtOnce sets how many tests of a package run at a time, unless -parallel says
// otherwise: more than there are processors where most wait for a clock. Call it
// in TestMain.
func AtOnce(n int) {
	_ = flag.Set("test.parallel", strconv.Itoa(n)) // each program of tests has it
}

// Soon returns a context that ends after [Patience], or with the test.
func Soon(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	tb.Cleanup(cancel)
	return ctx
}

// Eventually waits until ok reports true, and ends the test when it does not
// within [Patience]. what says what was waited for.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// Await receives from a channel, and ends the test when nothing comes within
// [Patience].
func Await[T any](tb testing.TB, what string, c <-chan T) (v T) {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	select {
	case v = <-c:
	case <-deadline.C:
		tb.Fatalf("waited in vain for %s", what)
	}
	return v
}
