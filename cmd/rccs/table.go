package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// column is one of a table.
type column struct {
	title string
	right bool // numbers
	// least is how narrow it may become where the terminal is; 0: what it
	// holds is never cut.
	least int
}

// table prints rows in columns that are as wide as they need to be, and on a
// terminal together no wider than that, if they can.
type table struct {
	columns []column
	rows    [][]string
}

func newTable(columns ...column) *table { return &table{columns: columns} }

// row adds one; what others named is made safe for a terminal.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	t.rows = append(t.rows, cells)
}

// widths are those of the columns within a total; 0 is no bound.
func (t *table) widths(total int) []int {
	widths := make([]int, len(t.columns))
	sum := 2 * (len(widths) - 1)
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		sum += widths[i]
	}
	for total > 0 && sum > total { // take from the widest that may shrink
		widest := -1
		for i, c := range t.columns {
			if c.least > 0 && widths[i] > c.least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		sum--
	}
	return widths
}

// print writes the table for a terminal so wide; 0: not a terminal.
func (t *table) print(w io.Writer, width int) error {
	widths := t.widths(width)
	var b strings.Builder
	line := func(cells func(i int) string) {
		from := b.Len()
		for i, c := range t.columns {
			if i > 0 {
				b.WriteString("  ")
			}
			cell := clip(cells(i), widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if c.right {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		text := strings.TrimRight(b.String()[from:], " ")
		rest := b.String()[:from]
		b.Reset()
		b.WriteString(rest + text + "\n")
	}
	line(func(i int) string { return t.columns[i].title })
	for _, row := range t.rows {
		line(func(i int) string { return row[i] })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clip cuts a text to a width in runes.
func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	runes := []rune(s)
	return string(runes[:max(width-1, 0)]) + "…"
}

// printable replaces what a terminal would act on: names and types come from
// outside.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// width is that of the terminal that standard output is, or 0.
func (env *environment) width() int {
	f, ok := env.out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func (env *environment) table(t *table) error { return t.print(env.out, env.width()) }

// json prints a value for programs: indented for one answer, as lists are.
func (env *environment) json(v any) error {
	enc := json.NewEncoder(env.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
