// Package node puts the parts of RCCS together: it is the only place where
// the embedded server, the edge and the admin listener meet.
//
// [New] checks, [Node.Start] serves, [Node.Stop] ends in the reverse order and
// is idempotent, [Node.Run] does both around a context. Every part is given
// NATS connections and never learns where the server runs, so that the parts
// run alone, against any NATS, by the same code.
//
// Only package main and tests import it.
package node
