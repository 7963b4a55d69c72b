// Package load puts the loads of `rccs bench` on an installation, as devices
// over real WebSockets, and says what came of them. It is written against
// docs/protocol.md alone, so any installation can be its target, wherever it
// runs.
//
// Each scenario is a function from [Options] to a [Result]: [Latency],
// [Throughput], [Fanout], [Storm], [Idle] and [Slow]. Each checks that every
// message that was sent arrived once and in order; the error of one that does
// not is a [*Violation], and its Result is returned all the same. [Compare]
// sets one result beside another.
//
// Concurrency: a scenario may be run beside others. Its goroutines and
// connections have ended when it returns.
//
// Package bench is for this repository's own benchmarks, which measure the
// server's CPU time against a floor. This one is for people who want to know
// what their installation does, so it has no server of its own and needs
// nothing but a URL and tokens.
package load
