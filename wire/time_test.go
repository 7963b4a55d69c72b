package wire_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// FuzzParseTime holds the times that are taken to a reading of RFC 3339 by its
// grammar.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{
		"2025-01-31T12:00:00Z", "2016-12-31t23:59:60.5z", "2016-12-31T15:59:60-08:00", "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
		"2025-01-31T12:00:00,5Z", "2025-01-31T2:00:00Z", "2025-01-31T12:00:00+24:00", "2024-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
		"2025-06-30T23:59:60Z", "2025-06-29T23:59:60Z", "2025-01-31T12:00:00.123456789123Z", "20x5-01-31T12:00:00Z", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, good := refTime(s)
		got, ok := wire.ParseTime(s)
		if ok != good || ok && !got.Equal(want) {
			t.Fatalf("%q: %v %t, by the grammar %v %t", s, got, ok, want, good)
		}
		if !ok {
			return
		}
		text := got.Format(time.RFC3339Nano)
		if again, ok := wire.ParseTime(text); !ok || !again.Equal(got) {
			t.Fatalf("%q is written %q, and read as %v %t", s, text, again, ok)
		}
	})
}

func TestWhatIsDeliveredLaterIsAtMostAYearAhead(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 1, 31, 12, 0, 0, 0, time.UTC)
	for at, good := range map[time.Time]bool{
		now.Add(-time.Hour): true, now: true, now.Add(366 * 24 * time.Hour): true, now.Add(366*24*time.Hour + 1): false,
		time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC): false, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): false,
	} {
		if err := wire.CheckDelay(at, now, 0); (err == nil) != good {
			t.Errorf("%v: %v", at, err)
		}
	}
	far := time.Duration(1<<63 - 1)
	if err := wire.CheckDelay(time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), now, far); err == nil {
		t.Error("a time that wraps in nanoseconds is taken")
	}
	if err := wire.CheckDelay(now.Add(2*time.Hour), now, time.Hour); err == nil {
		t.Error("a time past the limit is taken")
	}
}
