package main

import "github.com/mattn/go-isatty"

// colour is the ANSI escape sequence that begins a colour.
type colour string

const (
	red      colour = "\x1b[31m"
	green    colour = "\x1b[32m"
	yellow   colour = "\x1b[33m"
	noColour colour = "\x1b[0m"
)

// colours reports whether standard output shows colours: it is a terminal that
// has them, and nobody has asked for none (no-color.org).
func (env *environment) colours() bool {
	f, ok := fileOf(env.out)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return false
	}
	none, _ := env.lookup("NO_COLOR")
	term, _ := env.lookup("TERM")
	return none == "" && term != "dumb"
}

// coloured prints a text of ours, in a colour where there are any.
func (env *environment) coloured(text string, c colour) {
	if c == "" || !env.colours() {
		_ = env.printf("%s", text)
		return
	}
	redraw(env.out, "%s%s%s", c, text, noColour)
}
