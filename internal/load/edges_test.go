package load_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/load"
	"github.com/rccs-io/rccs/internal/shard"
)

// The loads of BenchmarkEdges and BenchmarkEdgeMemory, and their limits.
const (
	edgesPairs      = 96 // of all edges together
	registered      = 1_000_000
	memoryShards    = 10
	limitEdges      = 1.1 // of the servers' CPU a message to that with one edge and one shard
	limitBystander  = 0.1 // microseconds a message
	bystanderShards = 2
)

// divided is a server without an edge, and edges that serve one shard each, all
// in processes of their own.
type divided struct {
	server *load.Process
	edges  []*load.Process
	fleets []*load.Fleet // one an edge, as far as they are busy
	spent  cost          // of the server
}

// divide starts a server with so many shards, an edge for each, and pairs of
// devices on the first of them.
func divide(b *testing.B, shards, busy int) *divided {
	b.Helper()
	d := &divided{}
	var data string
	d.server, data = serve(b, "--listen", "", "--shards", strconv.Itoa(shards))
	for n := range shards {
		flags := []string{"--name", fmt.Sprint("edge-", n)}
		if shards > 1 {
			flags = append(flags, "--shards", strconv.Itoa(n))
		}
		e, err := load.Edge(program(b), data, d.server, flags...)
		if err != nil {
			b.Fatal(err)
		}
		stopAtEnd(b, e)
		d.edges = append(d.edges, e)
		if n >= busy {
			continue
		}
		var names []load.Name
		for _, name := range load.Names(2 * edgesPairs * (shards + 2)) { // a shard has about its part of them
			if len(names) < 2*edgesPairs/busy && shard.Of(name.User, shards) == n {
				names = append(names, name)
			}
		}
		d.fleets = append(d.fleets, connected(b, load.Options{
			Devices: len(names), Target: load.Target{URL: e.Devices, Accounts: accountsOf(b, data, names)},
		}))
	}
	return d
}

// round puts load on all busy edges at a time.
func (d *divided) round(b *testing.B) (messages uint64) {
	b.Helper()
	before, err := d.server.CPU()
	if err != nil {
		b.Fatal(err)
	}
	done := make([]load.Saturated, len(d.fleets))
	errs := make([]error, len(d.fleets))
	var all sync.WaitGroup
	for i, f := range d.fleets {
		all.Go(func() { done[i], errs[i] = f.Saturate(edgesPairs/len(d.fleets), *during) })
	}
	all.Wait()
	after, err := d.server.CPU()
	if err != nil {
		b.Fatal(err)
	}
	for i, r := range done {
		if errs[i] != nil {
			b.Fatal(errs[i])
		}
		messages += r.Messages
		d.spent.elapsed = max(d.spent.elapsed, r.Elapsed)
	}
	d.spent.messages += messages
	d.spent.cpu += after - before
	return messages
}

// BenchmarkEdges: what a message costs the server with one, two and four edges of
// one shard each, all of them busy, and what it costs an edge of another shard.
func BenchmarkEdges(b *testing.B) {
	for b.Loop() {
		one, two, four := divide(b, 1, 1), divide(b, 2, 2), divide(b, 4, 4)
		beside := divide(b, bystanderShards, 1)
		all := []*divided{one, two, four, beside}
		for _, d := range all {
			d.round(b)
			d.spent = cost{}
		}
		bystander := beside.edges[1]
		var idle, busy, quiet time.Duration // CPU time of the bystander, and how long nothing was sent
		var messages uint64
		spend := func(what *time.Duration, during func()) {
			before, err := bystander.CPU()
			if err != nil {
				b.Fatal(err)
			}
			during()
			after, err := bystander.CPU()
			if err != nil {
				b.Fatal(err)
			}
			*what += after - before
		}
		var loaded time.Duration
		for range deliverRounds {
			began := time.Now()
			spend(&idle, func() { one.round(b); two.round(b); four.round(b) })
			quiet += time.Since(began)
			began = time.Now()
			spend(&busy, func() { messages += beside.round(b) })
			loaded += time.Since(began)
		}
		for _, d := range all {
			b.Logf("%d edges: %.2f µs of the server's CPU a message", len(d.edges), d.spent.micros())
		}
		b.ReportMetric(one.spent.micros(), "one-cpu-µs/msg")
		for _, d := range []*divided{two, four} {
			ratio := d.spent.micros() / one.spent.micros()
			b.ReportMetric(ratio, fmt.Sprint("x-with-", len(d.edges)))
			judge(b, fmt.Sprintf("the server's CPU a message with %d edges over that with one", len(d.edges)), ratio, limitEdges, "times")
		}
		// What it spends when nothing is sent in its installation is no part of a message.
		more := busy - time.Duration(float64(idle)*loaded.Seconds()/quiet.Seconds())
		each := float64(more.Microseconds()) / float64(messages)
		b.ReportMetric(each, "bystander-µs/msg")
		judge(b, "CPU a message of an edge that serves another shard", each, limitBystander, "µs")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEdgeMemory: what an edge holds with many devices registered, of which
// its shards hold all, or a tenth, or which are none.
func BenchmarkEdgeMemory(b *testing.B) {
	for b.Loop() {
		server, data := serve(b, "--listen", "", "--shards", strconv.Itoa(memoryShards))
		held := func(flags ...string) float64 {
			e, err := load.Edge(program(b), data, server, flags...)
			if err != nil {
				b.Fatal(err)
			}
			ready(b, e)
			bytes, err := e.SteadyMemory(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Stop(); err != nil {
				b.Fatal(err)
			}
			return float64(bytes) / (1 << 20)
		}
		none := held()
		registerAll(b, data, server)
		all, tenth := held(), held("--shards", "0")
		b.ReportMetric(none, "none-MiB")
		b.ReportMetric(all, "all-MiB")
		b.ReportMetric(tenth, "tenth-MiB")
		b.Logf("%d devices: an edge of all %d shards holds %.1f MiB, one of a single shard %.1f; %.1f with no device",
			registered, memoryShards, all, tenth, none)
	}
	b.ReportMetric(0, "ns/op")
}

// registerAll writes the records of devices, by NATS.
func registerAll(b *testing.B, data string, server *load.Process) {
	b.Helper()
	js, record := storing(b, data, server), deviceRecord(b)
	for n := range registered {
		name := fullName(n)
		bucket := shard.At(shard.Of(name.User, memoryShards), memoryShards).Bucket(layout.BucketDevices)
		if _, err := js.PublishAsync("$KV."+bucket+"."+name.User+"."+name.Device, record, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	stored(b, js)
}
