package subjects_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/subjects"
)

func TestReservedNamesAreNoDevices(t *testing.T) {
	t.Parallel()
	for _, name := range []subjects.DeviceID{"server", "service:", "service:billing"} {
		if err := subjects.CheckDevice(name); !errors.Is(err, subjects.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := subjects.ParseAddress("alice/" + string(name)); !errors.Is(err, subjects.ErrName) {
			t.Errorf("alice/%s: %v", name, err)
		}
		if _, err := (subjects.Address{User: "alice", Device: name}).Key().Address(); !errors.Is(err, subjects.ErrName) {
			t.Errorf("the key of alice/%s: %v", name, err)
		}
	}
	for _, name := range []subjects.DeviceID{"Server", "server1", "service", "my server"} {
		if err := subjects.CheckDevice(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := subjects.CheckUser("server"); err != nil {
		t.Errorf("a user may be called server: %v", err)
	}
}

func TestNamesHaveNoInvisibleCharacters(t *testing.T) {
	t.Parallel()
	for what, name := range map[string]string{
		"zero width space": "ph\u200bone", "soft hyphen": "ph\u00adone", "left-to-right mark": "phone\u200e",
		"right-to-left override": "\u202eenohp", "isolate": "a\u2066b\u2069", "Arabic letter mark": "\u061ca", "word joiner": "a\u2060b",
		"invisible times": "a\u2062b", "byte order mark": "\ufeffphone", "Hangul filler": "\u3164", "half-width filler": "\uffa0",
		"combining grapheme joiner": "a\u034fb", "Khmer vowel": "\u17b4", "Mongolian vowel separator": "a\u180eb", "Braille blank": "\u2800",
		"tag": "\U0001f3f4\U000e0067\U000e007f", "interlinear": "\ufff9", "unassigned ignorable": "\U000e0fff", "musical": "\U0001d173",
		"non-joiner between Latin letters": "ph\u200cone", "joiner between Latin letters": "ph\u200done", "joiner at the end": "\U0001f469\u200d",
		"joiner before an emoji": "a\u200d\U0001f4bb", "two joiners": "\U0001f469\u200d\u200d\U0001f4bb", "non-joiner between emoji": "\U0001f469\u200c\U0001f4bb",
		"joiner in Arabic": "\u0628\u200d\u0628", "non-joiner at the start": "\u200c\u0628", "non-joiner behind a letter that does not join": "\u0627\u200c\u0628",
	} {
		for kind, err := range map[string]error{"user": subjects.CheckUser(subjects.UserID(name)), "device": subjects.CheckDevice(subjects.DeviceID(name))} {
			if !errors.Is(err, subjects.ErrName) {
				t.Errorf("%s in a %s, %+q: %v", what, kind, name, err)
			}
		}
	}
	for what, name := range map[string]string{
		"Persian": "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc", "Persian with marks": "\u0646\u064e\u200c\u064e\u0645", "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3", "Devanagari": "\u0915\u094d\u200c\u0937",
		"technologist": "\U0001f469\u200d\U0001f4bb", "with skin": "\U0001f469\U0001f3fd\u200d\U0001f4bb", "rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
		"family": "\U0001f468\u200d\U0001f469\u200d\U0001f467", "heart": "\u2764\ufe0f", "ideographic variant": "\u845b\U000e0100", "Mongolian variant": "\u1820\u180b",
		"plain": "phone 2", "Japanese": "日本", "accent": "e\u0301",
	} {
		for kind, err := range map[string]error{"user": subjects.CheckUser(subjects.UserID(name)), "device": subjects.CheckDevice(subjects.DeviceID(name))} {
			if err != nil {
				t.Errorf("%s in a %s, %+q: %v", what, kind, name, err)
			}
		}
	}
}

// The rules of RFC 5892 for joiners, over the letters of classes: Joining_Type
// L, D, R, T and U, v for a virama (which is transparent), n and j for the two
// joiners, E and s for emoji and their modifiers.
var (
	nonJoiners = regexp.MustCompile(`v(n)|[LD][Tvs]*(n)[Tvs]*[RD]`)
	joiners    = regexp.MustCompile(`v(j)|Es*(j)E`)
)

var classes = map[byte]rune{
	'L': '\U00010acd', 'D': '\u0628', 'R': '\u0627', 'T': '\u064e', 'U': 'a', 'v': '\u094d',
	'n': '\u200c', 'j': '\u200d', 'E': '\U0001f469', 's': '\ufe0f',
}

// FuzzVisible holds names to the rules by their letters.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"U", "DnD", "DTnTR", "vn", "vj", "EsjE", "DnU", "Uj", "DnDnR", "DnnR", "EjEjE", "Lnj", "EjT", "Dsns", "Tn"} {
		f.Add(s)
	}
	letters := "LDRTUvnjEs"
	f.Fuzz(func(t *testing.T, pattern string) {
		var class, name strings.Builder
		for _, b := range []byte(pattern) {
			c := letters[int(b)%len(letters)]
			if strings.IndexByte(letters, b) >= 0 {
				c = b
			}
			class.WriteByte(c)
			name.WriteRune(classes[c])
		}
		if subjects.CheckName("name", name.String()) != nil {
			return
		}
		good := allowed(class.String())
		if err := subjects.CheckVisible("name", name.String()); good != (err == nil) {
			t.Fatalf("%s, %+q: %v, the rules allow it: %t", class.String(), name.String(), err, good)
		}
	})
}

// allowed looks at each joiner by itself: what one of them is between, another
// may be between too.
func allowed(class string) bool {
	for i := range class {
		rule := nonJoiners
		switch class[i] {
		case 'j':
			rule = joiners
		case 'n':
		default:
			continue
		}
		good := false
		for from := range i + 1 {
			for _, m := range rule.FindAllStringSubmatchIndex(class[from:], -1) {
				good = good || m[2] == i-from || m[4] == i-from
			}
		}
		if !good {
			return false
		}
	}
	return true
}
