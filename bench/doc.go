// Package bench puts load on an RCCS server over real WebSockets and measures
// what it costs the server. It is written against docs/protocol.md alone and
// knows nothing of how the server works, so that the same load can be put on
// other servers: package relay, beside it, is the least that any server could
// do.
//
// A [Process] is a server in a process of its own: its CPU time and its
// resident memory are read from /proc, so they hold nothing of the generator.
// A [Fleet] is a number of connected devices, in pairs of a sender and a
// receiver. [Fleet.Saturate] keeps a number of messages in flight in each pair.
// It fails unless every message arrives once and in order, and the receivers
// acknowledge what they get. What is timed in other ways are the scenarios of
// 'rccs bench', in package load.
//
// Concurrency: a Fleet runs one load at a time; its other methods may be called
// at any time. Every goroutine ends with [Fleet.Close] and [Process.Stop].
//
// It must stay cheap, since it takes its CPU from the server's machine: it does
// not decode JSON, and sends the next message from where it reads the last. And
// it must not import anything that the server is made of.
package bench
