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

	"github.com/rccs-io/rccs/internal/testkit"
)

// program is the built rccs.
var program string

// long reports whether this is `make chaos`.
func long() bool { return os.Getenv("RCCS_CHAOS") != "" }

type suite struct{ m *testing.M }

func TestMain(m *testing.M) {
	testkit.AtOnce(4)
	testkit.VerifyTestMain(suite{m})
}

// Run implements goleak.TestingM.
func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "rccs-chaos-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	return s.m.Run()
}

// build makes the program: with the race detector, or, for `make chaos`, with a
// clock that can be set.
func build(dir string) error {
	program = filepath.Join(dir, "rccs")
	args := []string{"build", "-o", program}
	if long() {
		overlay, err := clockOverlay(dir)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	} else {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/rccs-io/rccs/cmd/rccs")...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// fault is one way to break an installation. It returns when that is mended.
type fault struct {
	name string
	// short: every run of the tests makes it. The others need minutes.
	short bool
	make  func(rnd *rand.Rand)
}

// Every message that was accepted by a cluster arrives once and in the order of
// its lane, whatever is broken. RCCS_CHAOS, such as 30m, is for how long faults of
// all kinds are made at random; RCCS_CHAOS_REPORT names a file for the tables.
func TestFault_NothingAcceptedIsLostWhateverBreaks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	defer c.health()
	const users = 4
	f := newFleet(t, target{data: c.plan.Data(), devices: c.devices.Addr(), edges: c.procs[servers:]}, users)
	suffer(t, "Three servers, two edges", f, c.faults(f))
}

// What is accepted by a server alone arrives, or the device is told of its loss.
func TestFault_NothingIsLostSilentlyByAServerAlone(t *testing.T) {
	t.Parallel()
	s := newSingleOnVolume(t)
	defer s.health()
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	const users = 2
	f := newFleet(t, target{data: s.data, devices: s.Devices, edges: []*proc{s.proc}}, users)
	suffer(t, "One server with an edge in it", f, s.faults(f))
}

// suffer makes faults while a fleet uses an installation, and waits after each
// until all flows again.
func suffer(t *testing.T, name string, f *fleet, faults []fault) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	if only := os.Getenv("RCCS_CHAOS_ONLY"); only != "" {
		faults = slices.DeleteFunc(faults, func(x fault) bool { return !strings.Contains(x.name, only) })
		if len(faults) == 0 {
			t.Fatalf("RCCS_CHAOS_ONLY: no fault is called %q", only)
		}
	}
	r := &report{name: name, costs: map[string]*cost{}}
	for _, x := range faults {
		r.order = append(r.order, x.name)
	}
	f.flowing("the start")
	f.ledger.takeLongest()
	f.takeAway()
	last := f.ledger.total(false)
	one := func(x fault) {
		began := time.Now()
		x.make(rnd)
		f.flowing(x.name)
		now := f.ledger.total(false)
		r.add(x.name, now.minus(last), f.ledger.takeLongest(), f.takeAway())
		last = now
		t.Logf("%-40s %6.1f s", x.name, time.Since(began).Seconds())
		if wrong := f.ledger.errors(); len(wrong) > 0 {
			t.Fatalf("after %s: %s", x.name, strings.Join(wrong, "\n"))
		}
	}
	began := time.Now()
	defer func() { // also of what a fault has ended
		r.took = time.Since(began)
		if r.total == (tally{}) {
			r.total = f.ledger.total(false)
		}
		t.Logf("\n%s", r)
		if path := os.Getenv("RCCS_CHAOS_REPORT"); path != "" {
			if err := r.write(path); err != nil {
				t.Error(err)
			}
		}
	}()
	if text := os.Getenv("RCCS_CHAOS"); text != "" {
		lasts, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("RCCS_CHAOS: %v", err)
		}
		for _, n := range rnd.Perm(len(faults)) { // each at least once
			one(faults[n])
		}
		for time.Since(began) < lasts {
			one(faults[rnd.IntN(len(faults))])
		}
	} else {
		for _, x := range faults {
			if x.short {
				one(x)
			}
		}
	}
	r.total = f.finish()
}
