package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// report is what faults cost.
type report struct {
	name  string
	order []string // of faults
	costs map[string]*cost
	total tally
	took  time.Duration
}

// cost is what came of all faults of a kind.
type cost struct {
	times         int
	sum           tally
	longest, away []time.Duration
}

func (r *report) add(name string, t tally, longest, away time.Duration) {
	c := r.costs[name]
	if c == nil {
		c = &cost{}
		r.costs[name] = c
	}
	c.times++
	c.sum = c.sum.plus(t)
	c.longest, c.away = append(c.longest, longest), append(c.away, away)
}

// String is a table in Markdown.
func (r *report) String() string {
	var b strings.Builder
	times := 0
	for _, c := range r.costs {
		times += c.times
	}
	fmt.Fprintf(&b, "**%s**: %d faults in %d minutes.\n\n", r.name, times, int(r.took.Round(time.Minute).Minutes()))
	b.WriteString("| fault | times | accepted | delivered | told lost | silently lost | redelivered | redelivered without a flag | reordered" +
		" | longest time without an accept, median and worst | longest without connection, median and worst |\n")
	b.WriteString("| --- |" + strings.Repeat(" --- |", 10) + "\n")
	for _, name := range r.order {
		if c := r.costs[name]; c != nil {
			fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", name, c.times, c.sum, spread(c.longest), spread(c.away))
		}
	}
	fmt.Fprintf(&b, "| all of it | %d | %s | | |\n", times, r.total)
	return b.String()
}

// String is the tally's cells of the table.
func (t tally) String() string {
	return fmt.Sprintf("%d | %d | %d | %d | %d | %d | %d", t.accepted, t.delivered, t.told, t.silent, t.redelivered, t.unflagged, t.reordered)
}

// write appends the table to a file.
func (r *report) write(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, r)
	return errors.Join(err, file.Close())
}

func spread(all []time.Duration) string {
	sorted := slices.Sorted(slices.Values(all))
	return fmt.Sprintf("%.1f s, %.1f s", sorted[len(sorted)/2].Seconds(), sorted[len(sorted)-1].Seconds())
}
