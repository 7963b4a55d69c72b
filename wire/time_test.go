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
		if text, want := wire.FormatTime(got), got.UTC().Format("2006-01-02T15:04:05.000Z07:00"); text != want {
			t.Fatalf("%v is written %q, want %q", got, text, want)
		}
		text := got.Format(time.RFC3339Nano)
		if again, ok := wire.ParseTime(text); !ok || !again.Equal(got) {
			t.Fatalf("%q is written %q, and read as %v %t", s, text, again, ok)
		}
	})
}

func TestATimeIsWrittenAsRFC3339InUTCWithMilliseconds(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 2*60*60)
	for want, at := range map[string]time.Time{
		"2025-01-31T12:00:00.000Z":  time.Date(2025, 1, 31, 12, 0, 0, 999_999, time.UTC),
		"2024-12-31T23:59:59.987Z":  time.Date(2025, 1, 1, 1, 59, 59, 987_654_321, east),
		"0007-02-03T04:05:06.070Z":  time.Date(7, 2, 3, 4, 5, 6, 70_000_000, time.UTC),
		"9999-12-31T23:59:59.999Z":  time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"10000-01-01T00:00:00.000Z": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		"-0001-01-01T00:00:00.000Z": time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got := wire.FormatTime(at); got != want {
			t.Errorf("%v is written %q, want %q", at, got, want)
		}
	}
}

// BenchmarkFormatTime compares it with Format of package time.
func BenchmarkFormatTime(b *testing.B) {
	at := time.Date(2025, 1, 31, 12, 0, 0, 123_000_000, time.UTC)
	for name, format := range map[string]func() string{
		"rccs": func() string { return wire.FormatTime(at) },
		"time": func() string { return at.UTC().Format("2006-01-02T15:04:05.000Z07:00") },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				format()
			}
		})
	}
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
