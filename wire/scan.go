package wire

import (
	"encoding/binary"
	"math/bits"
)

// scanner walks over JSON text once, without recursion. It accepts exactly
// what encoding/json accepts; that the text is valid UTF-8 is checked before.
// Its methods return false when the text is not JSON, and then i is about
// where.
type scanner struct {
	b []byte
	i int
}

// span is where a value stands in the text.
type span struct {
	at, end int
	kind    kind
	escaped bool // a string with a backslash in it
}

// kind is what a value is; the zero kind is no value.
type kind uint8

const (
	absent kind = iota
	isNull
	isTrue
	isFalse
	isNumber
	isString
	isArray
	isObject
)

// given reports whether there is a value other than null, which stands for none.
func (v span) given() bool { return v.kind > isNull }

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\n', '\r', '\t':
			s.i++
		default:
			return
		}
	}
}

// peek is the byte at i, 0 at the end: no byte of JSON outside strings is 0.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// take moves past c if it comes next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// value reads any value that starts at i; depth is how many containers are
// open around it.
func (s *scanner) value(depth int) (v span, ok bool) {
	v.at = s.i
	switch s.peek() {
	case '{':
		v.kind, ok = isObject, s.container(depth)
	case '[':
		v.kind, ok = isArray, s.container(depth)
	default:
		v.kind, v.escaped, ok = s.scalar()
	}
	v.end = s.i
	return v, ok
}

// scalar reads a value that is no container.
func (s *scanner) scalar() (k kind, escaped, ok bool) {
	switch c := s.peek(); {
	case c == '"':
		escaped, ok = s.str()
		return isString, escaped, ok
	case c == '-' || c >= '0' && c <= '9':
		return isNumber, false, s.number()
	case c == 't':
		return isTrue, false, s.literal("true")
	case c == 'f':
		return isFalse, false, s.literal("false")
	case c == 'n':
		return isNull, false, s.literal("null")
	}
	return absent, false, false
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

// digits reads one digit or more.
func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > from
}

// str reads the string that starts at i.
func (s *scanner) str() (escaped, ok bool) {
	s.i++
	for {
		s.plain()
		if s.i >= len(s.b) {
			return escaped, false
		}
		switch s.b[s.i] {
		case '"':
			s.i++
			return escaped, true
		case '\\':
			escaped = true
			if !s.escape() {
				return escaped, false
			}
		default: // a control character
			return escaped, false
		}
	}
}

// plain moves to the next byte of a string that is not just itself: a quote, a
// backslash or a control character. Eight bytes at a time, because this is
// where most of a frame is spent.
func (s *scanner) plain() {
	b, i := s.b, s.i
	for ; i+8 <= len(b); i += 8 {
		if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			s.i = i + bits.TrailingZeros64(m)/8
			return
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	s.i = i
}

// special has the top bit set of the lowest byte in w that is a quote, a
// backslash or below 0x20. Bits above that one may be wrong: a borrow runs
// upward, and only from a byte that is a hit itself.
func special(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, back := w^(ones*'"'), w^(ones*'\\')
	return ((w-ones*0x20)&^w | (quote-ones)&^quote | (back-ones)&^back) & tops
}

// escape reads the escape sequence that starts at i.
func (s *scanner) escape() bool {
	if s.i+1 >= len(s.b) {
		return false
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return true
	case 'u':
		if s.i+6 > len(s.b) {
			return false
		}
		if _, ok := hex4(s.b[s.i+2:]); !ok {
			return false
		}
		s.i += 6
		return true
	}
	return false
}

// container reads the array or object that starts at i. The stack of what is
// open is a byte a level, so that depth costs memory in proportion and never
// the goroutine's stack.
func (s *scanner) container(depth int) bool {
	var inline [32]byte
	open := inline[:0] // the bracket that closes each level
	for {
		s.space()
		if c := s.peek(); c == '{' || c == '[' {
			if depth+len(open) >= MaxDepth {
				return false
			}
			s.i++
			s.space()
			closer := c + 2 // in ASCII both brackets are two apart
			if !s.take(closer) {
				open = append(open, closer)
				if c == '{' && !s.skipKey() {
					return false
				}
				continue
			}
		} else if _, _, ok := s.scalar(); !ok {
			return false
		}
		var more, ok bool
		if open, more, ok = s.after(open); !more {
			return ok
		}
	}
}

// after reads what follows a value inside open containers: closing brackets,
// then a comma and, in an object, the next key. more is false when everything
// is closed or the text is wrong.
func (s *scanner) after(open []byte) (rest []byte, more, ok bool) {
	for len(open) > 0 {
		s.space()
		top := open[len(open)-1]
		switch {
		case s.take(top):
			open = open[:len(open)-1]
		case s.take(','):
			ok = top == ']' || s.skipKey()
			return open, ok, ok
		default:
			return open, false, false
		}
	}
	return open, false, true
}

// key reads a key and its colon. raw is what stands between the quotes.
func (s *scanner) key() (raw []byte, escaped, ok bool) {
	s.space()
	if s.peek() != '"' {
		return nil, false, false
	}
	at := s.i
	if escaped, ok = s.str(); !ok {
		return nil, escaped, false
	}
	raw = s.b[at+1 : s.i-1]
	s.space()
	return raw, escaped, s.take(':')
}

// skipKey reads a key that nobody asked for.
func (s *scanner) skipKey() bool {
	_, _, ok := s.key()
	return ok
}

// members reads the object that starts at i and leaves in fields, at the place
// that index gives for a key, the last value of that key. index answers -1 for
// a key of no interest. depth counts the containers open inside the object,
// itself included.
func (s *scanner) members(depth int, fields []span, index func(key []byte) int) bool {
	s.i++
	s.space()
	if s.take('}') {
		return true
	}
	for {
		key, escaped, ok := s.key()
		if !ok {
			return false
		}
		if escaped {
			key, _ = unquote(make([]byte, 0, len(key)), key)
		}
		s.space()
		v, ok := s.value(depth)
		if !ok {
			return false
		}
		if n := index(key); n >= 0 {
			fields[n] = v
		}
		s.space()
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}
