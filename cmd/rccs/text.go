package main

import (
	"fmt"
	"strconv"
	"time"
)

// number is a count, grouped by thousands.
func number[T int | uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), "KMGTPE"
	i := -1
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// span is a duration in one or two units, as people say it.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// ago is how long ago something was; none is "-".
func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return span(max(time.Since(*t), 0))
}

// moment is a time with its date and zone, in a form that --since reads.
func moment(t time.Time) string { return t.Local().Format(time.RFC3339) }

// exactMoment is moment to the millisecond, for what follows quickly.
func exactMoment(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }
