package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// program is the built rccs.
var program string

type suite struct{ m *testing.M }

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// Run implements goleak.TestingM.
func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "rccs-chaos-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "rccs")
		args := []string{"build", "-o", program}
		if os.Getenv("RCCS_CHAOS") == "" {
			args = append(args, "-race")
		}
		var out []byte
		if out, err = exec.Command("go", append(args, "github.com/rccs-io/rccs/cmd/rccs")...).CombinedOutput(); err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return s.m.Run()
}

// short are the faults that every run of the tests makes. The others need
// minutes.
var short = []string{
	"SIGKILL of an edge", "a new leader of the inbox", "SIGKILL of the inbox's leader", "all connections of devices lost", "an edge cut off from the servers",
}

// Every message that was accepted arrives once and in the order of its lane,
// whatever is broken. RCCS_CHAOS, such as 30m, is for how long faults of all
// kinds are made at random; RCCS_CHAOS_REPORT names a file for the table.
func TestFault_NothingAcceptedIsLostWhateverBreaks(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t)
	defer c.health()
	f := newFleet(t, c)
	f.flows(c, "the start")
	f.book.takeSlowest()
	f.takeAway()
	r := newReport()
	if text := os.Getenv("RCCS_CHAOS"); text != "" {
		for_, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("RCCS_CHAOS: %v", err)
		}
		for end := time.Now().Add(for_); time.Now().Before(end); {
			c.suffer(f, faults[rnd.IntN(len(faults))], rnd, r)
		}
	} else {
		for _, name := range short {
			for _, x := range faults {
				if x.name == name {
					c.suffer(f, x, rnd, r)
				}
			}
		}
	}
	f.finish(c)
	accepted, arrived := f.book.totals()
	t.Logf("%d messages accepted, %d arrived\n%s", accepted, arrived, r)
	if path := os.Getenv("RCCS_CHAOS_REPORT"); path != "" {
		text := fmt.Sprintf("%d messages accepted, %d arrived, %d wrong.\n\n%s", accepted, arrived, len(f.book.errors()), r)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// suffer makes a fault, mends it, and waits until all flows again.
func (c *cluster) suffer(f *fleet, x fault, rnd *rand.Rand, r *report) {
	c.t.Helper()
	began := time.Now()
	x.make(c, rnd)
	f.flows(c, x.name)
	r.add(x.name, f.book.takeSlowest(), f.takeAway())
	c.t.Logf("%-34s %6.1f s", x.name, time.Since(began).Seconds())
	if wrong := f.book.errors(); len(wrong) > 0 {
		c.t.Fatalf("after %s: %s", x.name, strings.Join(wrong, "\n"))
	}
}

// report is what faults cost.
type report struct {
	times  map[string]int
	accept map[string][]time.Duration
	away   map[string][]time.Duration
}

func newReport() *report {
	return &report{times: map[string]int{}, accept: map[string][]time.Duration{}, away: map[string][]time.Duration{}}
}

func (r *report) add(name string, accept, away time.Duration) {
	r.times[name]++
	r.accept[name] = append(r.accept[name], accept)
	r.away[name] = append(r.away[name], away)
}

// String is a table in Markdown.
func (r *report) String() string {
	var b strings.Builder
	b.WriteString("| fault | times | slowest acceptance, median and worst | longest without connection, median and worst |\n| --- | --- | --- | --- |\n")
	for _, x := range faults {
		if n := r.times[x.name]; n > 0 {
			fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", x.name, n, spread(r.accept[x.name]), spread(r.away[x.name]))
		}
	}
	return b.String()
}

func spread(all []time.Duration) string {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return fmt.Sprintf("%.1f s, %.1f s", sorted[len(sorted)/2].Seconds(), sorted[len(sorted)-1].Seconds())
}
