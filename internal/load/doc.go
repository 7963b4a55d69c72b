// Package load puts the loads of `rccs bench` on an installation, as devices
// over real WebSockets, and returns what it measured. It is written against
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
// A [Fleet] is for the benchmarks of this repository, which are beside it: its
// pairs of devices can be put under load again and again, on a server or on the
// relay of package relay, which is the least that any server could do. A
// [Process] is a server in a process of its own: its CPU time and its resident
// memory are read from /proc, so they hold nothing of the generator.
//
// The generator must stay cheap, since it takes its CPU from the server's
// machine: it decodes no JSON of messages, and sends the next message from where
// it reads the last. And it must not import anything that the server is made of.
package load
