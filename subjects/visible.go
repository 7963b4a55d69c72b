package subjects

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Two names that look the same must be the same: people grant, revoke and send
// by name. So users and devices have no characters that nobody sees.

const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
	brailleBlank       = '\u2800'
)

// serverName is the sender of what RCCS says in its own name, and
// serviceDevice begins the names of services where a device's would stand.
const (
	serverName    = "server"
	serviceDevice = "service:"
)

// CheckUser reports whether name can be a user's: see [CheckName]; without '/',
// and without characters that nobody sees. The error wraps [ErrName].
func CheckUser(name UserID) error {
	if err := CheckVisible("user", string(name)); err != nil {
		return err
	}
	if strings.Contains(string(name), "/") {
		return fmt.Errorf("%w: user %q contains '/'", ErrName, name)
	}
	return nil
}

// CheckDevice reports whether name can be a device's: see [CheckName]; not
// "server", which is the sender of what RCCS itself says, nor one that begins
// with "service:", as those of services do; and without characters that nobody
// sees. The error wraps [ErrName].
func CheckDevice(name DeviceID) error {
	if err := CheckVisible("device", string(name)); err != nil {
		return err
	}
	if name == serverName || strings.HasPrefix(string(name), serviceDevice) {
		return fmt.Errorf("%w: device %q is a name of RCCS's own: no device may be called server or service:…", ErrName, name)
	}
	return nil
}

// CheckVisible is [CheckName], and reports characters that nobody sees:
// formatting and bidirectional controls, those that are ignorable by default
// (variation selectors are not refused), and U+2800. U+200C and U+200D are taken
// where a script needs them (RFC 5892, A.1 and A.2), and U+200D between emoji.
func CheckVisible(kind, name string) error {
	if err := CheckName(kind, name); err != nil {
		return err
	}
	for i, r := range name {
		if r < 0x80 || !invisible(r) {
			continue
		}
		before, after := name[:i], name[i+utf8.RuneLen(r):]
		switch {
		case r == zeroWidthNonJoiner && (afterVirama(before) || joined(before, after)):
		case r == zeroWidthJoiner && (afterVirama(before) || betweenEmoji(before, after)):
		default:
			return fmt.Errorf("%w: %s %q contains %U, which nobody sees", ErrName, kind, name, r)
		}
	}
	return nil
}

func invisible(r rune) bool {
	return r == brailleBlank || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) &&
		!unicode.Is(unicode.Variation_Selector, r)
}

func afterVirama(before string) bool {
	r, _ := utf8.DecodeLastRuneInString(before)
	return in(viramas, r)
}

// joined reports whether letters on both sides would join, were there nothing
// between them: (L|D) T* . T* (R|D).
func joined(before, after string) bool {
	left, _ := utf8.DecodeLastRuneInString(strings.TrimRightFunc(before, transparent))
	right, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(after, transparent))
	return in(joinsNext, left) && in(joinsPrevious, right)
}

// transparent reports Joining_Type T, for what can stand in a name.
func transparent(r rune) bool {
	const adlamNasalization = '\U0001e94b'
	return r == adlamNasalization || unicode.In(r, unicode.Mn, unicode.Me)
}

func betweenEmoji(before, after string) bool {
	left, _ := utf8.DecodeLastRuneInString(strings.TrimRightFunc(before, func(r rune) bool {
		skinTone := r >= '\U0001f3fb' && r <= '\U0001f3ff'
		return skinTone || unicode.Is(unicode.Variation_Selector, r)
	}))
	right, _ := utf8.DecodeRuneInString(after)
	return in(pictographs, left) && in(pictographs, right)
}
