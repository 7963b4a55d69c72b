package wire

import (
	"strings"
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

// str is a string field that names something; "" when absent. Two names with
// half a surrogate pair would become one, so none is taken.
func (d *decoder) str(n int) string {
	v := d.f[n]
	if !v.given() {
		return ""
	}
	if v.kind != isString {
		d.fail(n, "a string")
		return ""
	}
	s, whole := d.unquoted(v)
	if !whole {
		d.fail(n, "a string without half a surrogate pair")
		return ""
	}
	return s
}

// prose is a string field for people, in which half a surrogate pair becomes
// U+FFFD; "" when absent.
func (d *decoder) prose(n int) string {
	v := d.f[n]
	if !v.given() || v.kind != isString {
		return d.str(n)
	}
	s, _ := d.unquoted(v)
	return s
}

// unquoted is the text of a string; whole is false when it has half a surrogate
// pair in it.
func (d *decoder) unquoted(v span) (s string, whole bool) {
	from := d.text.Len()
	raw, whole := d.b[v.at+1:v.end-1], true
	if v.escaped {
		raw, whole = unquote(make([]byte, 0, len(raw)), raw)
	}
	d.text.Write(raw)
	return d.text.String()[from:], whole
}

// flag is a boolean field.
func (d *decoder) flag(n int) bool {
	v := d.f[n]
	if v.given() && v.kind != isTrue && v.kind != isFalse {
		d.fail(n, "true or false")
	}
	return v.kind == isTrue
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

// validKey reports whether s may be an id: 1 to [MaxID] bytes, printable, no
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

// validName reports whether s may be a user, a device, a type or a capability.
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

// ValidType reports whether s is a type: [a-z][a-z0-9_.-]{0,63}.
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

// ValidID reports whether s may be an id, or another of the fields that [MaxID]
// bounds: 1 to [MaxID] bytes of UTF-8, no control characters or line
// separators, no space at either end.
func ValidID(s string) bool { return validKey(s) }
