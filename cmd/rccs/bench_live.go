package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/load"
)

// live is a line on standard error, where that is a terminal, that says how far
// a scenario is and what it measures.
type live struct {
	env      *environment
	scenario string
	on       bool
	shown    bool
}

func (env *environment) live(scenario string) *live {
	return &live{env: env, scenario: scenario, on: env.terminal()}
}

func (l *live) show(p load.Progress) {
	if !l.on {
		return
	}
	l.shown = true
	redraw(l.env.err, "\r%s\x1b[K", liveLine(l.scenario, p))
}

// liveLine is what is shown; it fits a terminal of 80.
func liveLine(scenario string, p load.Progress) string {
	line := scenario + ": " + p.Phase
	if p.All > 0 {
		const width = 20
		full := min(width*p.Done/p.All, width)
		line += fmt.Sprintf(" [%s%s]", strings.Repeat("=", full), strings.Repeat(" ", width-full))
	}
	if p.Rate > 0 {
		line += fmt.Sprintf(" %s/s", number(int(p.Rate)))
	}
	if p.P99 > 0 {
		line += fmt.Sprintf(" p99 %.1f ms", float64(p.P99)/float64(time.Millisecond))
	}
	return line
}

// end removes the line.
func (l *live) end() {
	if l.shown {
		redraw(l.env.err, "\r\x1b[K")
	}
}
