// Package chaos breaks an installation while devices use it, and checks what
// they saw.
//
// It has tests only. A cluster of three servers and two edges runs as processes
// of their own, with proxies on every way between them, and beside it a server
// alone; another, of four edges, has a tenant with four shards. Devices send and
// receive numbered messages, most by the Go SDK through a balancer before the
// edges, some without an SDK, so that each frame is seen; faults are made one
// after the other. A ledger holds what was accepted and what
// arrived or was told lost, and is checked by a checker that itself is tested
// with losses, repeats and swaps. `make test` runs some kinds of fault once;
// `make chaos` goes on for as long as RCCS_CHAOS says, in random order, and
// writes the tables in docs/reliability.md. RCCS_CHAOS_ONLY is a part of the
// names of the faults to make; others are left out.
//
// Clocks jump by a build overlay: the program is built with a package time whose
// Now adds what a file says (clock_test.go). That is done by `make chaos` alone.
package chaos
