// Package timespec reads the durations and moments that people and scripts
// write: in flags, in queries of the HTTP API, and in bodies of the
// coordinator's endpoints. All of them accept the same forms because all of
// them call this package, and a time is what it is in an envelope because both
// are read by wire.
//
// Its functions are pure and safe for concurrent use. They must not read the
// clock: the caller passes the present in.
package timespec

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rccs-io/rccs/wire"
)

// day is a day of 24 hours, whatever the calendar does.
const day = 24 * time.Hour

// The forms, as errors and help name them.
const (
	DurationForms = "a duration such as 90s, 1h30m or 30d"
	SinceForms    = "a duration such as 90s, 1h30m or 30d, or a time such as 2025-01-31T12:00:00Z"
	WordForms     = SinceForms + ", or today or yesterday"
)

// Errors of the functions here. Each names the forms that are accepted.
var (
	errDuration = errors.New("want " + DurationForms)
	errSince    = errors.New("want " + SinceForms)
	errWords    = errors.New("want " + WordForms)
)

// maxDays keeps a date that many days ahead within four digits of a year, and
// is exact as a floating-point number of nanoseconds.
const maxDays = 100_000

// Duration reads a positive duration: what time.ParseDuration reads, a number
// of days such as "30d", or days followed by the rest such as "1d12h".
func Duration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "", text
	}
	var total time.Duration
	if found {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || strings.Trim(days, "0123456789.") != "" || n > maxDays {
			return 0, errDuration
		}
		total = time.Duration(n * float64(day))
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > math.MaxInt64-total || found && strings.ContainsAny(rest[:1], "+-") {
			return 0, errDuration
		}
		total += d
	}
	if total <= 0 {
		return 0, errDuration
	}
	return total, nil
}

// Since reads the moment where something begins: a [Duration] back from now,
// or an RFC 3339 time.
func Since(text string, now time.Time) (time.Time, error) {
	if d, err := Duration(text); err == nil {
		return now.Add(-d), nil
	}
	if at, ok := wire.ParseTime(text); ok {
		return at, nil
	}
	return time.Time{}, errSince
}

// SinceWords is [Since] for people at a terminal: it also reads "today" and
// "yesterday", the midnight at which that day began in the zone of now.
func SinceWords(text string, now time.Time) (time.Time, error) {
	back := 0
	switch strings.ToLower(text) {
	case "yesterday":
		back = 1
	case "today":
	default:
		at, err := Since(text, now)
		if err != nil {
			err = errWords
		}
		return at, err
	}
	year, month, date := now.Date()
	return time.Date(year, month, date-back, 0, 0, 0, 0, now.Location()), nil
}

// Format writes a duration as [Duration] reads it, without what is nought at the
// end: 720h.
func Format(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
