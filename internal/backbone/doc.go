// Package backbone owns the NATS server inside `rccs serve`, and the streams
// and buckets that RCCS keeps on any NATS server.
//
// [Server] is an embedded nats-server in operator mode with JetStream on
// files. It is configured by a nats.conf; what RCCS must own itself (listener,
// store, operator, accounts, signals, logging) overrides what stands there.
// Below its data directory it owns "jetstream" (the store), "accounts" (the
// account JWTs that the server trusts) and "nats.lock" (which keeps a second
// process out). A directory that others can read, and a store that the key at
// hand does not open, are refused at the start.
//
// [Ensure] creates the streams, and upgrades them when the wanted
// configuration differs. It needs nothing of Server, only a connection, so the
// parts of RCCS run it against whatever NATS they are given.
//
// Concurrency: Start is called once; all other methods of Server, and Ensure,
// are safe for concurrent use. The package makes no keys, issues no JWTs,
// never handles signals and never ends the process.
package backbone
