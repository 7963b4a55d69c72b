package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// screen is the only way to a terminal. What a terminal would obey, control
// characters and those that change the direction of text, is written as JSON
// escapes it: \u009b. So what devices, services and servers have named and sent
// is shown and does nothing, and JSON stays what it was.
type screen struct {
	to io.Writer

	mu   sync.Mutex // several goroutines write at once
	rest []byte     // the beginning of a character that is not whole yet
}

// newScreen makes a writer safe, once.
func newScreen(to io.Writer) io.Writer {
	if s, ok := to.(*screen); ok {
		return s
	}
	return &screen{to: to}
}

// fileOf is the file behind a writer, which may be a terminal.
func fileOf(w io.Writer) (*os.File, bool) {
	if s, ok := w.(*screen); ok {
		w = s.to
	}
	f, ok := w.(*os.File)
	return f, ok
}

// forPrograms is standard output for what a program reads back byte for byte,
// such as names. Where people read it, on a terminal, it is as safe as all else.
func (env *environment) forPrograms() io.Writer {
	s, ok := env.out.(*screen)
	if !ok {
		return env.out
	}
	if f, ok := s.to.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return s
	}
	return s.to
}

// redraw writes what has this program itself move a terminal's cursor.
func redraw(w io.Writer, format string, args ...any) {
	if s, ok := w.(*screen); ok {
		w = s.to
	}
	_, _ = fmt.Fprintf(w, format, args...)
}

// Write implements [io.Writer].
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := p
	if len(s.rest) > 0 {
		text = append(s.rest, p...)
		s.rest = nil
	}
	var safe []byte // nil while nothing was changed
	from := 0
	for i := 0; i < len(text); {
		if !utf8.FullRune(text[i:]) {
			s.rest = append([]byte(nil), text[i:]...)
			text = text[:i]
			break
		}
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || obeyed(r) {
			safe = append(safe, text[from:i]...)
			safe = appendShown(safe, r)
			from = i + size
		}
		i += size
	}
	if from > 0 {
		text = append(safe, text[from:]...)
	}
	if _, err := s.to.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// obeyed reports whether a terminal does more with a character than show it.
func obeyed(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r < 0xa0: // C0, delete, C1
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // direction
		return true
	case r == 0x2028, r == 0x2029, r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f: // lines, and what hides text
		return true
	}
	return false
}

func appendShown(dst []byte, r rune) []byte {
	if r == utf8.RuneError {
		return utf8.AppendRune(dst, r)
	}
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}
