// Package chaos breaks an installation while devices use it, and checks what
// they saw.
//
// It has tests only. A cluster of three servers and two edges runs as processes
// of their own, with proxies on every way between them; devices send and
// receive numbered messages by the Go SDK, through a balancer before the edges;
// faults are made one after the other. A book is kept of what was accepted and
// what arrived, and checked by a checker that itself is tested with losses,
// repeats and swaps. `make test` runs each kind of fault once; `make chaos` goes
// on for as long as RCCS_CHAOS says, in random order, and writes the table in
// docs/reliability.md.
package chaos
