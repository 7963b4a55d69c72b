package wire

import (
	"strconv"
	"time"
)

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// FormatTime is t as RCCS writes it: RFC 3339 in UTC, with milliseconds.
func FormatTime(t time.Time) string {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.Format(timeLayout)
	}
	// Each message that names no time is given one. This takes a quarter of what
	// Format does: see BenchmarkFormatTime.
	hour, minute, second := t.Clock()
	b := [len("2006-01-02T15:04:05.000Z")]byte{4: '-', 7: '-', 10: 'T', 13: ':', 16: ':', 19: '.', 23: 'Z'}
	digits(b[0:4], year)
	digits(b[5:7], int(month))
	digits(b[8:10], day)
	digits(b[11:13], hour)
	digits(b[14:16], minute)
	digits(b[17:19], second)
	digits(b[20:23], t.Nanosecond()/int(time.Millisecond))
	return string(b[:])
}

// digits writes the last len(b) decimal digits of n, which is not negative.
func digits(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// MaxDelay is how far ahead deliverAt may lie where nothing else was
// configured.
const MaxDelay = 366 * 24 * time.Hour

// CheckDelay reports, as a BAD_MESSAGE, a deliverAt that is further ahead of now
// than limit, or that JetStream cannot hold. 0 is [MaxDelay].
func CheckDelay(at, now time.Time, limit time.Duration) *Error {
	if limit <= 0 {
		limit = MaxDelay
	}
	if at.After(now.Add(limit)) || at.After(lastTime) {
		return Errorf(BadMessage, "deliverAt must be at most %d hours ahead", int64(limit.Hours()))
	}
	return nil
}

// Times are kept in nanoseconds since 1970 where they are compared with what
// JetStream stored. Outside of these they would wrap.
var (
	firstTime = time.Unix(0, 0).UTC()
	lastTime  = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// ParseTime reads a time exactly as RFC 3339 writes it, t and z in lower case
// and leap seconds included; a leap second is the second after it. A time whose
// year in UTC does not have four digits cannot be written again and is refused,
// as is one of more than [MaxID] bytes. Digits past nanoseconds are dropped.
func ParseTime(s string) (t time.Time, ok bool) {
	const least = len("2006-01-02T15:04:05Z")
	if len(s) < least || len(s) > MaxID || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return t, false
	}
	year := number(s[0:2])*100 + number(s[2:4])
	month, day := number(s[5:7]), number(s[8:10])
	hour, minute, second := number(s[11:13]), number(s[14:16]), number(s[17:19])
	nanos, zone, ok := fraction(s[19:])
	east, known := offset(zone)
	if !ok || !known || year < 0 || month < 1 || month > 12 || day < 1 || uint(hour) > 23 || uint(minute) > 59 || uint(second) > 60 {
		return t, false
	}
	midnight := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if midnight.Day() != day {
		return t, false
	}
	t = midnight.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + nanos - east)
	// A leap second is the last one of a month in UTC.
	if second == 60 && (t.Day() != 1 || t.Hour() != 0 || t.Minute() != 0 || t.Second() != 0) {
		return time.Time{}, false
	}
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t, true
}

// number reads two digits; anything else is far below 0, whatever it is
// multiplied with.
func number(s string) int {
	if s[0]-'0' > 9 || s[1]-'0' > 9 {
		return -1_000_000
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

// fraction reads the fraction of a second at the start of s, if there is one.
func fraction(s string) (nanos time.Duration, rest string, ok bool) {
	if s == "" || s[0] != '.' {
		return 0, s, true
	}
	end := 1
	for end < len(s) && s[end]-'0' <= 9 {
		end++
	}
	if end == 1 {
		return 0, s, false
	}
	digits := s[1:min(end, 10)]
	n, err := strconv.Atoi(digits)
	for range 9 - len(digits) {
		n *= 10
	}
	return time.Duration(n), s[end:], err == nil
}

// offset reads the zone that a time ends with: how far east of UTC it is.
func offset(s string) (east time.Duration, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != len("+07:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	hours, minutes := number(s[1:3]), number(s[4:6])
	east = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		east = -east
	}
	return east, uint(hours) <= 23 && uint(minutes) <= 59
}

const wantTime = "an RFC 3339 time, such as \"2025-01-31T12:00:00Z\""

// when is a time field; zero when absent.
func (d *decoder) when(n int, want string) (t time.Time) {
	v := d.f[n]
	if !v.given() {
		return t
	}
	if v.kind != isString {
		d.fail(n, want)
		return t
	}
	raw := d.b[v.at+1 : v.end-1]
	if v.escaped {
		raw, _ = unquote(make([]byte, 0, len(raw)), raw)
	}
	t, ok := ParseTime(string(raw))
	if !ok {
		d.fail(n, want)
	}
	return t
}

// timestamp is the time as it was sent, or made from milliseconds.
func (d *decoder) timestamp(n int) string {
	const want = wantTime + " or a number of milliseconds"
	if d.f[n].kind != isNumber {
		d.when(n, want)
		return d.str(n)
	}
	ms, _, ok := parseInt(d.raw(n))
	if !ok { // it has a fraction
		f, err := strconv.ParseFloat(string(d.raw(n)), 64)
		if ok = err == nil && f > -maxMillis-1 && f < maxMillis+1; ok {
			ms = int64(f)
		}
	}
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); !ok || ms > maxMillis || ms < -maxMillis || y < 0 || y > 9999 {
		d.fail(n, want)
		return ""
	}
	return FormatTime(t)
}

// maxMillis is the end of the year 9999, past which RFC 3339 has no year.
const maxMillis = 253_402_300_799_999
