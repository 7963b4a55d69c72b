package load_test

import (
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/need"
)

// Two builds are compared in turn, round by round, so that both meet the same
// weather: on a machine that others use, the figures of two runs say little about
// a difference of a twentieth.
var (
	pairA = flag.String("a", "", "the rccs `program` to compare -b with, for the benchmarks called Pair")
	pairB = flag.String("b", "", "the rccs `program` that is compared with -a")
	pairs = flag.Int("pairs", 10, "how many rounds each of two builds has")
	rate  = flag.Int("rate", 1000, "how many `messages` a second they are given")
)

const pairDevices = 1000

// BenchmarkPairCost: the CPU that a message costs two builds, below full load,
// where most of it is waking goroutines, and how long it takes; and the same of the
// relay. Under
// -profiles each has an execution trace written too, in which
// `go tool trace -pprof=sync` and `-pprof=net` count who is woken, by where it
// waited.
func BenchmarkPairCost(b *testing.B) {
	if *pairA == "" || *pairB == "" {
		need.Skip(b, "it compares two builds: name them with -args -a PROGRAM -b PROGRAM")
	}
	for b.Loop() {
		pairCost(b)
	}
	b.ReportMetric(0, "ns/op")
}

// side is one of those that are compared.
type side struct {
	name    string
	process *load.Process
	fleet   *load.Fleet
	costs   []float64 // µs of CPU a message, by round
	took    []time.Duration
}

func pairCost(b *testing.B) {
	bare := startRelay(b)
	sides := []*side{{name: "relay", process: bare, fleet: connect(b, bare, "", load.Options{Devices: pairDevices})}}
	for _, build := range []struct{ name, program string }{{"a", *pairA}, {"b", *pairB}} {
		p, data := serveProgram(b, build.program)
		sides = append(sides, &side{name: build.name, process: p, fleet: connect(b, p, data, load.Options{Devices: pairDevices})})
	}
	for _, s := range sides { // the first round of each is to warm up
		s.round(b)
		s.costs, s.took = nil, nil
	}
	for i := range *pairs {
		for _, s := range sides {
			s.round(b)
		}
		if i%2 == 0 {
			sides[1], sides[2] = sides[2], sides[1] // who comes second has the other before it
		}
	}
	if *profiles != "" {
		for _, s := range sides {
			s.profile(b)
		}
	}
	slices.SortFunc(sides[1:], func(x, y *side) int { return int(x.name[0]) - int(y.name[0]) })
	relay, a, with := sides[0].costs, sides[1].costs, sides[2].costs
	middle, low, high := ratio(with, a)
	b.ReportMetric(median(a), "a-µs/msg")
	b.ReportMetric(median(with), "b-µs/msg")
	b.ReportMetric(middle, "b/a")
	b.Logf("%d messages a second, µs of CPU a message: a %.0f, b %.0f, relay %.0f; b/a %.3f (%.3f-%.3f); b/relay %.2f",
		*rate, median(a), median(with), median(relay), middle, low, high, median(with)/median(relay))
	for _, s := range sides {
		b.Logf("%s: p50 %.3f ms, %.2f times the relay's; p99 %.2f ms; p99.9 %.2f ms", s.name, s.latency(0.5), s.latency(0.5)/sides[0].latency(0.5), s.latency(0.99), s.latency(0.999))
	}
}

// wake has a message in each pair: connections that were idle while the other
// sides had their turns are so no more.
func (s *side) wake(b *testing.B) {
	b.Helper()
	if _, err := s.fleet.Pace(*rate, time.Second*pairDevices/2/time.Duration(*rate)); err != nil {
		b.Fatal(err)
	}
}

// round puts load on a side.
func (s *side) round(b *testing.B) {
	b.Helper()
	s.wake(b)
	before, err := s.process.CPU()
	if err != nil {
		b.Fatal(err)
	}
	took, err := s.fleet.Pace(*rate, *during)
	if err != nil {
		b.Fatal(err)
	}
	after, err := s.process.CPU()
	if err != nil {
		b.Fatal(err)
	}
	s.costs = append(s.costs, float64((after-before).Microseconds())/float64(len(took)))
	s.took = append(s.took, took...)
}

// latency is a quantile of how long the messages of all rounds took, in
// milliseconds.
func (s *side) latency(quantile float64) float64 {
	slices.Sort(s.took)
	return s.took[int(quantile*float64(len(s.took)))].Seconds() * 1000
}

// profile writes profiles of a side under load, and an execution trace.
func (s *side) profile(b *testing.B) {
	b.Helper()
	const seconds = 4
	s.wake(b)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	fetching.Go(func() {
		prefix := filepath.Join(*profiles, fmt.Sprintf("%s-%d", s.name, *rate))
		err := fetchTo(b.Context(), s.process, "/debug/pprof/trace?seconds=1", prefix+".trace")
		if err == nil {
			err = fetchProfiles(b.Context(), s.process, prefix, seconds)
		}
		if err != nil {
			b.Error(err)
		}
	})
	if _, err := s.fleet.Pace(*rate, (seconds+2)*time.Second); err != nil {
		b.Error(err)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// ratio returns the median of the ratios of two rows, and its 95 % interval by
// the order of the values.
func ratio(over, under []float64) (middle, low, high float64) {
	all := make([]float64, len(over))
	for i := range over {
		all[i] = over[i] / under[i]
	}
	slices.Sort(all)
	n := float64(len(all))
	first := max(int(n/2-0.98*math.Sqrt(n)), 0)
	return median(all), all[first], all[len(all)-1-first]
}
