package timespec_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/timespec"
)

const day = 24 * time.Hour

func TestDurationsAreGosAndDays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"30d": 30 * day, "1d12h": 36 * time.Hour, "1d0s": day, "100000d": 100_000 * day, "1.5d": 36 * time.Hour,
	} {
		if got, err := timespec.Duration(text); err != nil || got != want {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "0s", "0d", "d", "-1h", "-1d", "1d-1h", "1d+1h", "5", "1w", "1 h", "30 d", "1dd", "yesterday", "100001d", "1e3d", "infd", "0x1p3d", "1.2.3d", "99999999999d",
		"2025-01-31T12:00:00Z", "100000d200000h",
	} {
		if got, err := timespec.Duration(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

func TestSinceIsADurationBackOrATime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	now := time.Date(2025, 3, 1, 10, 30, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"1h": now.Add(-time.Hour), "30d": now.Add(-30 * day),
		"2025-01-31T12:00:00Z": time.Date(2025, 1, 31, 12, 0, 0, 0, time.UTC),
		"2025-01-31t12:00:00z": time.Date(2025, 1, 31, 12, 0, 0, 0, time.UTC), "2025-01-31T12:00:00.5+02:00": time.Date(2025, 1, 31, 10, 0, 0, 5e8, time.UTC),
		"2016-12-31T23:59:60Z": time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC), "2017-01-01T05:29:60+05:30": time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := timespec.Since(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "yesterday", "today", "2025-01-31", "2025-01-31T12:00:00", "2025-01-31T12:00:00,5Z", "2025-01-31T2:00:00Z",
		"2025-01-31T12:00:00+24:00", "2025-02-30T12:00:00Z", "2025-01-31T12:00:60Z", "-1h",
	} {
		if got, err := timespec.Since(text, now); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	for text, want := range map[string]time.Time{
		"today": time.Date(2025, 3, 1, 0, 0, 0, 0, zone), "Yesterday": time.Date(2025, 2, 28, 0, 0, 0, 0, zone), "1h": now.Add(-time.Hour),
	} {
		if got, err := timespec.SinceWords(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
	if _, err := timespec.SinceWords("soon", now); err == nil || err.Error() != "want "+timespec.WordForms {
		t.Errorf("an error that does not say the forms: %v", err)
	}
}

func TestADurationIsWrittenAsItIsRead(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		30 * day: "720h", time.Hour: "1h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s", 36 * time.Hour: "36h", time.Minute: "1m",
	} {
		got := timespec.Format(d)
		if back, err := timespec.Duration(got); got != want || err != nil || back != d {
			t.Errorf("%s is written %q and read as %s, %v, want %q", d, got, back, err, want)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, text := range []string{"30d", "1d12h", "90s", "-1h", "99999999999d", "1.5h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := timespec.Duration(text)
		if (err == nil) != (d > 0) {
			t.Fatalf("%q is %s, %v", text, d, err)
		}
		if err != nil {
			return
		}
		if back, err := timespec.Duration(timespec.Format(d)); err != nil || back != d {
			t.Errorf("%q is %s, written %q and read as %s, %v", text, d, timespec.Format(d), back, err)
		}
		if plain, err := time.ParseDuration(text); err == nil && plain != d {
			t.Errorf("%q is %s, and Go says %s", text, d, plain)
		}
	})
}
