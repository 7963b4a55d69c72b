// Package natstest gives tests a real NATS server with JetStream on files, in
// the test's own process, and the means to break it: stop, kill, restart, cut
// connections, freeze the network. NATS is never faked in this project.
//
// [Server] starts one and stops it when the test ends. It has plain accounts,
// no operator mode and, unless [Listen] is given, no socket: connections are
// made in memory, so a server costs a few milliseconds and any number of tests
// run in parallel. [NewProxy] stands between a client and a listening server
// and breaks the connection for real.
//
// Methods which take or use a testing.TB must be called from the test's own
// goroutine, since they may end the test. All other methods are safe for
// concurrent use. The package is for tests only, and must not be imported by
// anything else.
package natstest
