package wire

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// decoder turns the spans of one object into values, and keeps the first thing
// that was wrong. Reading on after that is harmless.
//
// The spans are an array in it, and as large as the largest table, so that a
// decoder lives on the stack: as a slice they would escape with the strings.
type decoder struct {
	b     []byte
	f     [fields]span // by field
	names []string     // by field
	text  strings.Builder
	bad   *Error
}

// fail records that field n is not what it must be.
func (d *decoder) fail(n int, want string) {
	if d.bad == nil {
		d.bad = NewError(BadMessage, d.names[n]+" must be "+want)
	}
}

// missing records that field n must be there.
func (d *decoder) missing(n int, want string) {
	if d.bad == nil {
		d.bad = NewError(BadMessage, d.names[n]+" is missing: it must be "+want)
	}
}

// reserve makes room for all strings in one allocation. skip are fields that
// are never read as a string.
func (d *decoder) reserve(skip ...int) {
	total := 0
	for n := range d.f {
		if d.f[n].kind == isString {
			total += d.f[n].end - d.f[n].at - 2
		}
	}
	for _, n := range skip {
		if d.f[n].kind == isString {
			total -= d.f[n].end - d.f[n].at - 2
		}
	}
	d.text.Grow(total)
}

// raw is the text of field n.
func (d *decoder) raw(n int) []byte { return d.b[d.f[n].at:d.f[n].end:d.f[n].end] }

// str is a string field; "" when absent.
func (d *decoder) str(n int) string {
	v := d.f[n]
	if !v.given() {
		return ""
	}
	if v.kind != isString {
		d.fail(n, "a string")
		return ""
	}
	from := d.text.Len()
	if raw := d.b[v.at+1 : v.end-1]; v.escaped {
		d.text.Write(unquote(make([]byte, 0, len(raw)), raw))
	} else {
		d.text.Write(raw)
	}
	return d.text.String()[from:]
}

// flag is a boolean field.
func (d *decoder) flag(n int) bool {
	v := d.f[n]
	if v.given() && v.kind != isTrue && v.kind != isFalse {
		d.fail(n, "true or false")
	}
	return v.kind == isTrue
}

// integer is an integer field from low to high; 0 when absent.
func (d *decoder) integer(n int, low, high int64, want string) int64 {
	v := d.f[n]
	if !v.given() {
		return 0
	}
	i, ok := parseInt(d.raw(n))
	if v.kind != isNumber || !ok || i < low || i > high {
		d.fail(n, want)
		return 0
	}
	return i
}

const (
	wantID   = "a string of 1 to 128 printable bytes without space at either end"
	wantKey  = "a string of at most 128 printable bytes without space at either end"
	wantName = "a string of 1 to 128 bytes without control characters"
)

// key is an optional string that travels as a header.
func (d *decoder) key(n int) string {
	s := d.str(n)
	if s != "" && !validKey(s) {
		d.fail(n, wantKey)
	}
	return s
}

// name is an optional string that becomes a token of a subject.
func (d *decoder) name(n int) string {
	s := d.str(n)
	if d.f[n].given() && !validName(s) {
		d.fail(n, wantName)
	}
	return s
}

// parseInt reads a scanned number that is written as an integer and fits.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > len("-9223372036854775808") {
		return 0, false
	}
	digits := b
	if b[0] == '-' {
		digits = b[1:]
	}
	var u uint64 // 19 digits cannot overflow it
	for _, c := range digits {
		if c -= '0'; c > 9 {
			return 0, false
		}
		u = u*10 + uint64(c)
	}
	switch {
	case len(digits) == 0 || len(digits) > 19 || u > math.MaxInt64:
		return 0, false
	case b[0] == '-':
		return -int64(u), true
	}
	return int64(u), true
}

// validKey says whether s may be an id: 1 to [MaxID] bytes, printable, no
// space at either end.
func validKey(s string) bool {
	if s == "" || len(s) > MaxID {
		return false
	}
	plain := s[0] != ' ' && s[len(s)-1] != ' '
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	return plain || validWideKey(s)
}

func validWideKey(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if unicode.IsSpace(first) || unicode.IsSpace(last) || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// validName says whether s may be a user, a device, a type or a capability.
func validName(s string) bool {
	if s == "" || len(s) > MaxID {
		return false
	}
	for _, r := range s {
		if r != '\t' && unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// ValidType says whether s is a type: [a-z][a-z0-9_.-]{0,63}.
func ValidType(s string) bool {
	if s == "" || len(s) > MaxType || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// ValidID says whether s may be an id, a correlationId, a collapseKey or a
// traceparent: 1 to [MaxID] bytes of UTF-8, no control characters or line
// separators, no space at either end.
func ValidID(s string) bool { return validKey(s) }

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// FormatTime is t as RCCS writes it: RFC 3339 in UTC, with milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

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
		raw = unquote(make([]byte, 0, len(raw)), raw)
	}
	// In UTC it must still have a year of four digits, or it cannot be written.
	if err := t.UnmarshalText(raw); err != nil || t.UTC().Year() < 0 || t.UTC().Year() > 9999 {
		d.fail(n, want)
		return time.Time{}
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
	ms, ok := parseInt(d.raw(n))
	if !ok {
		f, err := strconv.ParseFloat(string(d.raw(n)), 64)
		ok = err == nil && math.Abs(f) < math.MaxInt64
		ms = int64(f)
	}
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); !ok || ms > maxMillis || ms < -maxMillis || y < 0 || y > 9999 {
		d.fail(n, want)
		return ""
	}
	return t.Format(timeLayout)
}

// maxMillis is the end of the year 9999, past which RFC 3339 has no year.
const maxMillis = 253_402_300_799_999
