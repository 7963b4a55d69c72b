package load_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
)

// The scenarios of 'rccs bench' that have a limit, and their loads.
const (
	latencyRate    = 2000 // messages a second
	latencyDevices = 1000
	latencyRounds  = 15 // times -during
	stormDevices   = 10000
	fanoutDevices  = 1000
)

// Their limits. docs/benchmarks.md says what they are for.
const (
	limitP50        = 0.3    // milliseconds
	limitP99        = 1.0    // milliseconds
	limitP999       = 10.0   // milliseconds
	limitStorm      = 5000.0 // devices a second, at least
	limitStormProbe = 50.0   // milliseconds
	limitFanout     = 200e3  // deliveries a second, at least
)

// scenario runs one against a server with an empty store. While the phase of
// that name lasts, CPU time is taken, and the server is profiled, if that was
// asked for.
func scenario(b *testing.B, name string, run func(context.Context, load.Options) (*load.Result, error), opts load.Options, phase string, seconds int) (*load.Result, phaseCost) {
	b.Helper()
	server, data := serve(b)
	opts.Target = load.Target{URL: server.Devices, Memory: server.SteadyMemory, Accounts: accounts(b, data, load.Needs(name, opts.Devices))}
	var fetching sync.WaitGroup
	defer fetching.Wait()
	profile := sync.OnceFunc(func() {
		if *profiles == "" {
			return
		}
		fetching.Go(func() {
			file := strings.ReplaceAll(strings.TrimPrefix(b.Name(), "Benchmark"), "/", "-")
			if err := fetchProfiles(b.Context(), server, filepath.Join(*profiles, file), seconds); err != nil {
				b.Error(err)
			}
		})
	})
	var begun, ended bool
	var cost phaseCost
	look := func() (now phaseCost) {
		now.generator = cpuTime()
		var err error
		now.server, err = server.CPU()
		if err != nil {
			b.Error(err)
		}
		return now
	}
	opts.Progress = func(p load.Progress) {
		switch {
		case p.Phase == phase && !begun:
			begun, cost = true, look()
			profile()
		case p.Phase != phase && begun && !ended:
			now := look()
			ended, cost = true, phaseCost{now.server - cost.server, now.generator - cost.generator}
		}
	}
	result, err := run(b.Context(), opts)
	if err != nil {
		b.Fatal(err)
	}
	return result, cost
}

// phaseCost is the CPU time of a phase, to a tenth of a second or so, which is
// how often is looked.
type phaseCost struct{ server, generator time.Duration }

// figure is one of a result's metrics, which is reported.
func figure(b *testing.B, r *load.Result, name string) float64 {
	b.Helper()
	i := slices.IndexFunc(r.Metrics, func(m load.Metric) bool { return m.Name == name })
	if i < 0 {
		b.Fatalf("%s has no figure %q", r.Scenario, name)
	}
	b.ReportMetric(r.Metrics[i].Value, strings.ReplaceAll(strings.ReplaceAll(name+" "+r.Metrics[i].Unit, " /", "/"), " ", "-"))
	return r.Metrics[i].Value
}

// BenchmarkLatency: how long a message takes from device to device.
func BenchmarkLatency(b *testing.B) {
	for b.Loop() {
		r, _ := scenario(b, "latency", load.Latency, load.Options{
			Devices: latencyDevices, Rate: latencyRate, Warmup: 3 * *during, Duration: latencyRounds * *during,
		}, "sending", 10)
		judge(b, "p50", figure(b, r, "latency p50"), limitP50, "ms")
		judge(b, "p99", figure(b, r, "latency p99"), limitP99, "ms")
		judge(b, "p99.9", figure(b, r, "latency p99.9"), limitP999, "ms")
		b.Logf("longest %.2f ms; sent late by p99 %.2f ms, which is part of the figures",
			figure(b, r, "latency max"), figure(b, r, "sent late p99"))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStorm: devices that come back all at once, each with five messages
// that it missed, and what others notice of it.
func BenchmarkStorm(b *testing.B) {
	for b.Loop() {
		r, cost := scenario(b, "storm", load.Storm, load.Options{Devices: stormDevices}, "storm", 5)
		judgeLeast(b, "devices served", figure(b, r, "devices"), limitStorm, "/s")
		judge(b, "an unrelated message, p99", figure(b, r, "probe p99"), limitStormProbe, "ms")
		figure(b, r, "probe p50")
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / stormDevices }
		b.Logf("a device cost the server %.0f µs of CPU, and the generator %.0f", each(cost.server), each(cost.generator))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFanout: one message of a topic to many devices.
func BenchmarkFanout(b *testing.B) {
	for b.Loop() {
		r, _ := scenario(b, "fanout", load.Fanout, load.Options{Devices: fanoutDevices, Duration: 5 * *during}, "sending", 4)
		judgeLeast(b, "deliveries", figure(b, r, "deliveries"), limitFanout, "/s")
	}
	b.ReportMetric(0, "ns/op")
}

// judgeLeast is judge for a value that should be no lower than its limit.
func judgeLeast(b *testing.B, what string, value, limit float64, unit string) {
	b.Helper()
	verdict := "kept"
	if value < limit {
		verdict = "NOT KEPT"
	}
	b.Logf("%s: %.0f%s, limit %.0f%s, %.2f times the limit: %s", what, value, unit, limit, unit, value/limit, verdict)
	if *strict && value < limit {
		b.Errorf("%s is below its limit", what)
	}
}
