package main

import (
	"strings"
	"time"
)

// Progress is shown only when work takes a while, and not too often.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// progress is a bar on standard error, where that is a terminal.
type progress struct {
	env   *environment
	what  string
	begun time.Time
	shown time.Time
	on    bool
	unit  func(int) string
}

func (env *environment) progress(what string) *progress {
	return &progress{env: env, what: what, begun: time.Now(), on: env.terminal(), unit: number[int]}
}

// at shows how far the work is; all 0: nobody knows how much there is.
func (p *progress) at(done, all int) {
	now := time.Now()
	if !p.on || now.Sub(p.begun) < progressAfter || now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	if all <= 0 {
		redraw(p.env.err, "\r%s %s\x1b[K", p.what, p.unit(done))
		return
	}
	const width = 30
	full := min(width, width*done/all)
	redraw(p.env.err, "\r%s [%s%s] %s of %s\x1b[K", p.what,
		strings.Repeat("=", full), strings.Repeat(" ", width-full), p.unit(done), p.unit(all))
}

// bytes is a bar of bytes.
func (env *environment) bytes(what string) (bar *progress, at func(done, all int64)) {
	bar = env.progress(what)
	bar.unit = func(n int) string { return size(uint64(n)) } //nolint:gosec // it counts up from 0
	return bar, func(done, all int64) { bar.at(int(done), int(all)) }
}

// end removes the bar.
func (p *progress) end() {
	if !p.shown.IsZero() {
		redraw(p.env.err, "\r\x1b[K")
	}
}
