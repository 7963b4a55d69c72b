package main

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// column is one of a table.
type column struct {
	title string
	right bool // numbers
	// least is how narrow the column may become on a narrow terminal. 0: its
	// cells are never cut. Names and ids that people copy must have 0.
	least int
	// extra columns are left out on a terminal that is too narrow for all of
	// them: the highest number first. 0: the column is always there. The flag
	// --wide prints them all.
	extra int
}

// table prints rows in columns that are as wide as they need to be. On a
// terminal it first shortens cells that may be cut, then leaves out extra
// columns, until the rows fit.
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

// fit returns the table without the extra columns that do not fit into a
// terminal of this width, and the titles of those; 0 is no bound.
func (t *table) fit(width int) (fitting *table, left []string) {
	fitting = t
	for width > 0 && sum(fitting.widths(width)) > width {
		out := -1
		for i, c := range fitting.columns {
			if c.extra > 0 && (out < 0 || c.extra > fitting.columns[out].extra) {
				out = i
			}
		}
		if out < 0 {
			break
		}
		left = append(left, fitting.columns[out].title)
		fitting = fitting.without(out)
	}
	return fitting, left
}

// without returns the table without one column.
func (t *table) without(out int) *table {
	less := &table{columns: slices.Delete(slices.Clone(t.columns), out, out+1)}
	for _, row := range t.rows {
		less.rows = append(less.rows, slices.Delete(slices.Clone(row), out, out+1))
	}
	return less
}

// sum is the width of a row with columns so wide.
func sum(widths []int) int {
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	return total
}

// gap is the space between two columns.
const gap = 2

// widths are those of the columns within a total; 0 is no bound.
func (t *table) widths(total int) []int {
	widths := make([]int, len(t.columns))
	sum := gap * (len(widths) - 1)
	for i, c := range t.columns {
		widths[i] = cellsOf(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], cellsOf(row[i]))
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
			pad := strings.Repeat(" ", widths[i]-cellsOf(cell))
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

// clip cuts a text to a width in cells, one of which is the ellipsis.
func clip(s string, width int) string {
	if cellsOf(s) <= width {
		return s
	}
	cells := 0
	for i, r := range s {
		if cells += cellsOfRune(r); cells >= max(width, 1) {
			return s[:i] + "…"
		}
	}
	return s
}

// cellsOf is how many cells of a terminal a text takes.
func cellsOf(s string) (cells int) {
	for _, r := range s {
		cells += cellsOfRune(r)
	}
	return cells
}

// cellsOfRune is 2 for characters of East Asia and emoji, and 0 for marks, which
// stand on the character before them.
func cellsOfRune(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0xff61 && r <= 0xffdc: // the halfwidth forms of what follows
		return 1
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo, unicode.Yi),
		r >= 0x3000 && r <= 0x303e, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, // punctuation and fullwidth forms
		r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
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

// printStacked writes each row as lines of a title and a value, for a terminal
// that is too narrow for the columns: nothing is cut, and nothing stands beside
// another.
func (t *table) printStacked(w io.Writer) error {
	titles := 0
	for _, c := range t.columns {
		titles = max(titles, cellsOf(c.title))
	}
	var b strings.Builder
	for i, row := range t.rows {
		if i > 0 {
			b.WriteString("\n")
		}
		for j, cell := range row {
			if cell != "" {
				title := t.columns[j].title
				b.WriteString(title + strings.Repeat(" ", titles-cellsOf(title)+gap) + cell + "\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width is that of the terminal that standard output is, or 0.
func (env *environment) width() int {
	if env.columns > 0 {
		return env.columns
	}
	f, ok := fileOf(env.out)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// list prints a table, or where it has no row a sentence that says so.
func (env *environment) list(t *table, none string) error {
	if len(t.rows) == 0 {
		return env.printf("%s\n", none)
	}
	return env.table(t)
}

// table prints a table, as wide as the terminal unless --wide is given, and
// notes which columns had no room. Where not even the columns that are needed
// have room, it prints each row as a block of lines.
func (env *environment) table(t *table) error {
	width := env.width()
	if env.wide {
		width = 0
	}
	fitting, left := t.fit(width)
	if width > 0 && sum(fitting.widths(width)) > width && len(t.rows) > 0 {
		return t.printStacked(env.out)
	}
	if err := fitting.print(env.out, width); err != nil {
		return err
	}
	if len(left) > 0 {
		env.note("no room for %s: --wide shows all columns", strings.Join(left, ", "))
	}
	return nil
}

// answer prints what was done, for people or for programs.
func (env *environment) answer(asJSON bool, v map[string]any, format string, args ...any) error {
	if asJSON {
		return env.json(v)
	}
	return env.printf(format, args...)
}

// json prints a value for programs: indented for one answer, as lists are.
func (env *environment) json(v any) error {
	enc := json.NewEncoder(env.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
