package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/shard"
)

var many = flag.Int("many", 0, "how many `devices` are connected at a time in BenchmarkMany, which is left out without")

// The load of BenchmarkMany.
const (
	manyEach   = 17000 // devices of an edge and of a generator: each is an open file in both
	manyRate   = 20    // messages a second of each generator
	manySample = 15 * time.Second
	// manyConnecting is how many devices of a generator connect at a time, and
	// manyHeartbeat how often each is pinged: all share a few cores.
	manyConnecting = 8
	manyHeartbeat  = 5 * time.Minute
	manyWithin     = 25 * time.Minute // past which it is given up
)

// generator is a process that connects devices to one edge. It answers a
// [generated] with a [generatorSaid]: the first when all are connected, each one
// after that with how long messages took.
type generator struct {
	in  *json.Encoder
	out *json.Decoder
}

// generated is what a generator is to do: first to connect, then to send messages
// for some time.
type generated struct {
	URL      string
	Accounts []load.Account
	Sample   time.Duration
}

type generatorSaid struct {
	Times  []time.Duration
	Failed string
}

// devicesChild is the generator's process.
func devicesChild() error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	say := func(times []time.Duration, err error) error {
		said := generatorSaid{Times: times}
		if err != nil {
			said.Failed = err.Error()
		}
		return errors.Join(err, out.Encode(said))
	}
	var do generated
	if err := in.Decode(&do); err != nil {
		return err
	}
	f, err := load.Connect(load.Options{
		Devices: len(do.Accounts), Target: load.Target{URL: do.URL, Accounts: do.Accounts},
		Connecting: manyConnecting, Heartbeat: manyHeartbeat, Patience: time.Minute,
	})
	for err == nil {
		if err := say(nil, nil); err != nil {
			return err
		}
		for {
			switch e := in.Decode(&do); {
			case errors.Is(e, io.EOF):
				return f.Close()
			case e != nil:
				return e
			}
			times, err := f.Sample(manyRate, do.Sample)
			if err := say(times, err); err != nil {
				return err
			}
		}
	}
	return say(nil, err)
}

// startGenerator starts a generator, which ends with the benchmark.
func startGenerator(ctx context.Context, b *testing.B, do generated) *generator {
	b.Helper()
	cmd := self(b, "devices")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	late := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
		late()
	})
	g := &generator{in: json.NewEncoder(in), out: json.NewDecoder(out)}
	if err := g.in.Encode(do); err != nil {
		b.Fatal(err)
	}
	return g
}

// answer waits for what the generator says next.
func (g *generator) answer() ([]time.Duration, error) {
	var said generatorSaid
	if err := g.out.Decode(&said); err != nil {
		return nil, fmt.Errorf("the generator does not answer: %w", err)
	}
	if said.Failed != "" {
		return nil, errors.New(said.Failed)
	}
	return said.Times, nil
}

// BenchmarkMany: more devices than a process may have open files. As many edges
// as that takes serve one shard each, each has a generator, and all are processes
// of their own. It tells what a connection adds to the memory of the edges and of
// the server, and how long a message to one device among them takes.
func BenchmarkMany(b *testing.B) {
	if *many <= 0 {
		need.Skip(b, "it takes minutes: say how many devices with -args -many 100000")
	}
	for b.Loop() {
		connectMany(b)
	}
	b.ReportMetric(0, "ns/op")
}

func connectMany(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), manyWithin) // generators end by themselves, in clean-ups
	b.Cleanup(cancel)
	n := (*many + manyEach - 1) / manyEach
	server, data := serve(b, "--listen", "", "--shards", strconv.Itoa(n))
	edges, before := make([]*load.Process, n), make([]int64, n)
	memory := func(p *load.Process) int64 {
		bytes, err := p.SteadyMemory(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return bytes
	}
	for i := range edges {
		e, err := load.Edge(program(b), data, server, "--name", fmt.Sprint("edge-", i), "--shards", strconv.Itoa(i))
		if err != nil {
			b.Fatal(err)
		}
		stopAtEnd(b, e)
		edges[i] = e
	}
	for i, e := range edges {
		before[i] = memory(e)
	}
	serverBefore := memory(server)
	parts := make([][]load.Account, n)
	for _, a := range accounts(b, data, *many) {
		i := shard.Of(a.Name.User, n)
		parts[i] = append(parts[i], a)
	}
	began := time.Now()
	generators := make([]*generator, n)
	for i, e := range edges {
		generators[i] = startGenerator(ctx, b, generated{URL: e.Devices, Accounts: parts[i]})
	}
	for _, g := range generators {
		if _, err := g.answer(); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d devices on %d edges, connected in %.0f s", *many, n, time.Since(began).Seconds())
	held := int64(0)
	for i, e := range edges {
		now := memory(e)
		held += now - before[i]
		b.Logf("edge %d: %d devices, %.1f MiB, %.1f before", i, len(parts[i]), float64(now)/(1<<20), float64(before[i])/(1<<20))
	}
	serverAfter := memory(server)
	each := func(bytes int64) float64 { return float64(bytes) / float64(*many) / 1024 }
	b.ReportMetric(each(held), "edges-KiB/conn")
	b.ReportMetric(each(serverAfter-serverBefore), "server-KiB/conn")
	b.Logf("the server: %.1f MiB, %.1f before; a connection: %.1f KiB in its edge, %.1f in the server",
		float64(serverAfter)/(1<<20), float64(serverBefore)/(1<<20), each(held), each(serverAfter-serverBefore))
	times := sampleAll(b, generators)
	slices.Sort(times)
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1))].Seconds() * 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.Logf("%d messages, each to a device taken at random, %d a second: p50 %.2f ms, p99 %.2f ms, longest %.2f ms",
		len(times), manyRate*n, at(0.5), at(0.99), at(1))
}

// sampleAll has all generators send messages at a time, and returns how long they
// took.
func sampleAll(b *testing.B, generators []*generator) (times []time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, g := range generators {
		all.Go(func() {
			if err := g.in.Encode(generated{Sample: manySample}); err != nil {
				b.Error(err)
				return
			}
			took, err := g.answer()
			if err != nil {
				b.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took...)
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return times
}
