package testkit

import "testing"

// Check ends the test when there is an error.
func Check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// Must returns v, and ends the test when there is an error.
func Must[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	Check(tb, err)
	return v
}
