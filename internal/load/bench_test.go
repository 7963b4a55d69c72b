package load_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
)

var (
	measured = flag.String("rccs", "", "the rccs `program` to measure, instead of one built from this tree")
	during   = flag.Duration("during", time.Second, "how long each round of load lasts")
	profiles = flag.String("profiles", "", "`directory` for profiles of the server under load")
	churn    = flag.Duration("churn", 0, "how long devices come and go in BenchmarkChurn, which is left out without")
	strict   = flag.Bool("strict", false, "a limit that is not kept fails the benchmark")
)

// The load of BenchmarkDeliver.
const (
	deliverDevices  = 1000
	deliverPairs    = 100
	deliverInflight = 16
	deliverRounds   = 6
)

// The loads of the others.
const (
	manyDevices  = 10000
	idleDevices  = 15000
	churnDevices = 1000 // that come and go together
	credsDevices = 10000
	churnLooks   = 6 // at memory, in the time that is asked for
	// churnWarm is how long devices come and go before: JetStream holds the ids of
	// two minutes.
	churnWarm   = 150 * time.Second
	churnEvery  = 4 * time.Second  // so that those ids are as many all the time
	readyWithin = 20 * time.Second // past which a start is given up
)

// The limits. docs/benchmarks.md says what they are for.
const (
	limitRatio = 1.2 // of a message's CPU to the floor's
	// limitConnected is no more with many connected than with few: a tenth is what
	// the same build differs by from one run to the next.
	limitConnected = 1.1
	limitChurn     = 1.1    // times the memory after the warm-up
	limitStartup   = 1000.0 // milliseconds
	limitCreds     = 10e3   // milliseconds
)

// judge reports a value beside its limit.
func judge(b *testing.B, what string, value, limit float64, unit string) {
	b.Helper()
	verdict := "kept"
	if value > limit {
		verdict = "NOT KEPT"
	}
	b.Logf("%s: %.2f %s, limit %.4g %s, %.2f times the limit: %s", what, value, unit, limit, unit, value/limit, verdict)
	if *strict && value > limit {
		b.Errorf("%s is over its limit", what)
	}
}

// cost is what rounds of load cost a server.
type cost struct {
	messages                uint64
	elapsed, cpu, generator time.Duration
}

func (c cost) micros() float64 { return float64(c.cpu.Microseconds()) / float64(c.messages) }
func (c cost) rate() float64   { return float64(c.messages) / c.elapsed.Seconds() }

// round puts load on a server. acked is called after it, before CPU time is
// read.
func (c *cost) round(b *testing.B, p *load.Process, f *load.Fleet, acked func(messages uint64)) {
	b.Helper()
	before, err := p.CPU()
	if err != nil {
		b.Fatal(err)
	}
	own := cpuTime()
	r, err := f.Saturate(deliverPairs, *during)
	if err != nil {
		b.Fatal(err)
	}
	c.generator += cpuTime() - own
	acked(r.Messages)
	after, err := p.CPU()
	if err != nil {
		b.Fatal(err)
	}
	c.messages += r.Messages
	c.elapsed += r.Elapsed
	c.cpu += after - before
}

// BenchmarkDeliver: what a message costs the server, device to device, stored,
// delivered and acknowledged, and what the floor costs.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name string
		opts load.Options
	}{
		{"acks=read", load.Options{}},
		{"acks=each", load.Options{AckEach: true}},
		{"acks=each,receipts", load.Options{AckEach: true, Receipts: true}},
		{"acks=read,batch", load.Options{Batch: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				deliver(b, c.opts)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// deliver takes rounds of server and floor in turn, so that both meet the same
// weather.
func deliver(b *testing.B, opts load.Options) {
	opts.Devices = deliverDevices
	server, data := serve(b)
	fleet := connect(b, server, data, opts)
	bare := startRelay(b)
	bareLoad := connect(b, bare, "", load.Options{Devices: deliverDevices})
	js := startJetstream(b)

	var warm, served, relayed, stored cost
	acked := ackedBy(b, server, opts.Receipts)
	none := func(uint64) {}
	js.run(b, *during)
	warm.round(b, bare, bareLoad, none)
	warm.round(b, server, fleet, acked)
	for range deliverRounds {
		relayed.round(b, bare, bareLoad, none)
		r := js.run(b, *during)
		stored.messages, stored.cpu, stored.elapsed = stored.messages+r.Messages, stored.cpu+r.CPU, stored.elapsed+r.Elapsed
		served.round(b, server, fleet, acked)
	}
	floor := relayed.micros() + stored.micros()
	b.ReportMetric(served.rate(), "msgs/s")
	b.ReportMetric(served.micros(), "server-cpu-µs/msg")
	b.ReportMetric(floor, "floor-µs/msg")
	b.ReportMetric(served.micros()/floor, "x-floor")
	b.Logf("server %.2f µs of CPU a message at %.0f/s; floor %.2f = relay %.2f at %.0f/s + JetStream %.2f at %.0f/s",
		served.micros(), served.rate(), floor, relayed.micros(), relayed.rate(), stored.micros(), stored.rate())
	b.Logf("the generator took %.2f µs a message beside the server, %.2f beside the relay",
		float64(served.generator.Microseconds())/float64(served.messages), float64(relayed.generator.Microseconds())/float64(relayed.messages))
	judge(b, "CPU of a message over the floor's", served.micros()/floor, limitRatio, "times")
	if *profiles != "" {
		profile(b, server, fleet, acked)
	}
}

// BenchmarkConnected: what a message costs the server when many more devices are
// connected than are busy, over what it costs when few are.
func BenchmarkConnected(b *testing.B) {
	for b.Loop() {
		few, fewData := serve(b)
		fewLoad := connect(b, few, fewData, load.Options{Devices: 2 * deliverPairs})
		many, manyData := serve(b)
		manyLoad := connect(b, many, manyData, load.Options{Devices: manyDevices})
		fewAcked, manyAcked := ackedBy(b, few, false), ackedBy(b, many, false)
		var warm, little, much cost
		warm.round(b, few, fewLoad, fewAcked)
		warm.round(b, many, manyLoad, manyAcked)
		for range deliverRounds {
			little.round(b, few, fewLoad, fewAcked)
			much.round(b, many, manyLoad, manyAcked)
		}
		b.ReportMetric(little.micros(), "few-cpu-µs/msg")
		b.ReportMetric(much.micros(), "many-cpu-µs/msg")
		b.Logf("%.2f µs of CPU a message at %.0f/s with %d connected, %.2f at %.0f/s with %d",
			little.micros(), little.rate(), 2*deliverPairs, much.micros(), much.rate(), manyDevices)
		judge(b, "CPU of a message with many connected over that with few", much.micros()/little.micros(), limitConnected, "times")
	}
	b.ReportMetric(0, "ns/op")
}

// ackedBy returns a function that waits until the server has counted the
// acknowledgement of so many more messages.
func ackedBy(b *testing.B, p *load.Process, receipts bool) func(uint64) {
	var want float64
	return func(messages uint64) {
		if receipts {
			messages *= 2 // the sender acknowledges what it hears of each
		}
		b.Helper()
		want += float64(messages)
		ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
		defer cancel()
		poll := time.NewTicker(10 * time.Millisecond)
		defer poll.Stop()
		for {
			got, err := p.Metric(ctx, "rccs_messages_acked_total")
			if err != nil {
				b.Fatal(err)
			}
			if got == want {
				return
			}
			select {
			case <-poll.C:
			case <-ctx.Done():
				b.Fatalf("%.0f of %.0f messages are acknowledged", got, want)
			}
		}
	}
}

// profile writes profiles of a server under load to the directory asked for.
func profile(b *testing.B, p *load.Process, f *load.Fleet, acked func(uint64)) {
	b.Helper()
	const seconds = 10
	name := strings.ReplaceAll(strings.TrimPrefix(b.Name(), "Benchmark"), "/", "-")
	fetched := make(chan error, 1)
	go func() {
		fetched <- fetchProfiles(b.Context(), p, filepath.Join(*profiles, name), seconds)
	}()
	r, err := f.Saturate(deliverPairs, (seconds+2)*time.Second)
	if err != nil {
		b.Error(err)
	}
	if err := <-fetched; err != nil {
		b.Fatal(err)
	}
	acked(r.Messages)
}

func fetchProfiles(ctx context.Context, p *load.Process, prefix string, seconds int) error {
	for _, get := range []struct{ path, suffix string }{
		{fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), ".cpu.prof"},
		{"/debug/pprof/allocs", ".allocs.prof"},
	} {
		if err := fetchTo(ctx, p, get.path, prefix+get.suffix); err != nil {
			return err
		}
	}
	return nil
}

// fetchTo writes a path of the admin listener to a file.
func fetchTo(ctx context.Context, p *load.Process, path, file string) error {
	var body bytes.Buffer
	if err := p.Fetch(ctx, path, &body); err != nil {
		return err
	}
	return os.WriteFile(file, body.Bytes(), 0o600)
}

// BenchmarkIdle: what a connection that does nothing holds in memory, and what
// one of the relay holds.
func BenchmarkIdle(b *testing.B) {
	b.Run("plain", func(b *testing.B) { idle(b, nil, nil, nil) })
	b.Run("tls", func(b *testing.B) {
		ca := natstest.NewCA(b)
		cert, key := ca.Files("edge")
		idle(b, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12},
			[]string{certEnv + "=" + cert, keyEnv + "=" + key}, []string{"--tls-cert", cert, "--tls-key", key})
	})
}

// idle measures the relay with env, and the server with flags.
func idle(b *testing.B, trust *tls.Config, env, flags []string) {
	for b.Loop() {
		bare := startRelay(b, env...)
		relayed := resident(b, "relay", bare, "", trust)
		if err := bare.Stop(); err != nil {
			b.Fatal(err)
		}
		server, data := serve(b, flags...)
		held := resident(b, "server", server, data, trust)
		b.ReportMetric(held, "KiB/conn")
		b.ReportMetric(relayed, "relay-KiB/conn")
		b.Logf("%d connections: server %.1f KiB each, relay %.1f, %.2f times", idleDevices, held, relayed, held/relayed)
		judge(b, "memory of an idle connection, the relay's being the limit", held, relayed, "KiB")
	}
	b.ReportMetric(0, "ns/op")
}

// resident is how many KiB each of idleDevices connections adds to a server.
func resident(b *testing.B, what string, p *load.Process, data string, trust *tls.Config) float64 {
	b.Helper()
	before, err := p.SteadyMemory(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	fleet := connect(b, p, data, load.Options{Devices: idleDevices, Target: load.Target{TLS: trust}})
	after, err := p.SteadyMemory(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if *profiles != "" {
		name := strings.ReplaceAll(strings.TrimPrefix(b.Name(), "Benchmark"), "/", "-") + "-" + what
		for _, kind := range []string{"heap", "goroutine"} {
			if err := fetchTo(b.Context(), p, "/debug/pprof/"+kind+"?gc=1", filepath.Join(*profiles, name+"."+kind+".prof")); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := fleet.Close(); err != nil {
		b.Fatal(err)
	}
	b.Logf("%s: %.1f MiB without connections, %.1f with %d", what, float64(before)/(1<<20), float64(after)/(1<<20), idleDevices)
	return float64(after-before) / idleDevices / 1024
}

// BenchmarkChurn: whether memory stays when devices come and go.
func BenchmarkChurn(b *testing.B) {
	if *churn <= 0 {
		need.Skip(b, "it takes minutes: say how many with -args -churn 10m")
	}
	for b.Loop() {
		server, data := serve(b)
		opts := load.Options{Devices: churnDevices, Target: load.Target{URL: server.Devices, Accounts: accounts(b, data, churnDevices)}}
		rounds := 0
		pace := time.NewTicker(churnEvery)
		defer pace.Stop()
		comeAndGo := func() {
			<-pace.C
			rounds++
			fleet, err := load.Connect(opts)
			if err == nil {
				err = fleet.Close()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		settled := func() float64 {
			held, err := server.SteadyMemory(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("%.1f MiB after %d connects and disconnects", float64(held)/(1<<20), rounds*churnDevices)
			return float64(held)
		}
		for warm := time.Now(); time.Since(warm) < churnWarm; {
			comeAndGo()
		}
		first, last := settled(), 0.0
		began, looks := time.Now(), time.Duration(1)
		for time.Since(began) < *churn {
			comeAndGo()
			if time.Since(began) > looks**churn/churnLooks {
				last, looks = settled(), looks+1
			}
		}
		b.ReportMetric(float64(rounds*churnDevices), "connects")
		judge(b, "memory at the end over that at the beginning", last/first, limitChurn, "times")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStartup: from the start of the process to /readyz, with no keys and
// no store.
func BenchmarkStartup(b *testing.B) {
	exe := program(b)
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		p, err := load.Serve(exe, filepath.Join(b.TempDir(), "data"))
		if err != nil {
			b.Fatal(err)
		}
		ready(b, p)
		all = append(all, time.Since(start))
		if err := p.Stop(); err != nil {
			b.Fatal(err)
		}
	}
	longest := float64(slices.Max(all)) / 1e6
	b.ReportMetric(longest, "longest-ms")
	judge(b, fmt.Sprintf("start to ready, longest of %d", len(all)), longest, limitStartup, "ms")
}

// ready polls /readyz until it says so.
func ready(b *testing.B, p *load.Process) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), readyWithin)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		var page bytes.Buffer
		err := p.Fetch(ctx, "/readyz", &page)
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			b.Fatal(err)
		}
	}
}

// BenchmarkCreds: bearer tokens for many devices, from the command line.
func BenchmarkCreds(b *testing.B) {
	exe, names := program(b), load.Names(credsDevices)
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := load.Tokens(b.Context(), exe, filepath.Join(b.TempDir(), "data"), names); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(start))
	}
	longest := float64(slices.Max(all)) / 1e6
	b.ReportMetric(longest, "longest-ms")
	judge(b, fmt.Sprintf("%d tokens, longest of %d", credsDevices, len(all)), longest, limitCreds, "ms")
}
