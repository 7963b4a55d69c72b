package subjects

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest user, device, type, method or topic token, in bytes
// of UTF-8 before escaping. It keeps every subject far below the 4,096 bytes
// past which nats-server closes the connection that sent the line.
const MaxName = 128

// ErrName is wrapped by every error about a name that cannot be a token.
var ErrName = errors.New("invalid name")

const upperHex = "0123456789ABCDEF"

// plain reports whether b stands for itself in a token.
func plain(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-'
}

// Escape turns a name into one subject token: [A-Za-z0-9_-] stand for
// themselves, every other byte is '%' and two upper-case hex digits. It is
// injective on all strings; it does not judge the name, see [CheckName].
func Escape(name string) string {
	for i := 0; i < len(name); i++ {
		if !plain(name[i]) {
			return string(AppendEscape(make([]byte, 0, len(name)+16), name))
		}
	}
	return name
}

// AppendEscape appends the token for name to dst and returns it.
func AppendEscape(dst []byte, name string) []byte {
	for i := 0; i < len(name); i++ {
		if b := name[i]; plain(b) {
			dst = append(dst, b)
		} else {
			dst = append(dst, '%', upperHex[b>>4], upperHex[b&15])
		}
	}
	return dst
}

// Unescape is the inverse of [Escape]. It accepts only what Escape produces,
// so that two tokens never stand for one name.
func Unescape(token string) (string, error) {
	if !strings.Contains(token, "%") {
		for i := 0; i < len(token); i++ {
			if !plain(token[i]) {
				return "", fmt.Errorf("subjects: token %q: %w: byte %q is not escaped", token, ErrName, token[i])
			}
		}
		return token, nil
	}
	name := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		switch b := token[i]; {
		case plain(b):
			name = append(name, b)
		case b == '%' && i+2 < len(token):
			hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) { //nolint:gosec // two digits of four bits
				return "", fmt.Errorf("subjects: token %q: %w: bad escape", token, ErrName)
			}
			name = append(name, byte(hi<<4|lo)) //nolint:gosec // two digits of four bits
			i += 2
		default:
			return "", fmt.Errorf("subjects: token %q: %w: byte %q is not escaped", token, ErrName, b)
		}
	}
	return string(name), nil
}

// CheckName reports whether name can be a user, device, type, method or topic
// token: 1 to 128 bytes of valid UTF-8 without control characters other than
// tab. kind names it in the error. The error wraps [ErrName].
func CheckName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s is empty", ErrName, kind)
	case len(name) > MaxName:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrName, kind, len(name), MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrName, kind)
	}
	for _, r := range name {
		if r != '\t' && (r < 0x20 || r >= 0x7f && r < 0xa0) {
			return fmt.Errorf("%w: %s contains the control character %U", ErrName, kind, r)
		}
	}
	return nil
}
