// Package snapshot moves one JetStream stream, with its durable consumers,
// into an archive and back, by the server's own snapshot API, while the stream
// is in use. An archive is one of nats-server 2.15: NATSARC1 below S2.
//
// The server's snapshot is of the sequences up to one moment, read afterwards.
// A message that is replaced while it is being read is then in no snapshot:
// its successor came too late. Of a stream that keeps the last message of each
// subject, such as a bucket's, [Take] therefore reads what was stored meanwhile
// and adds it, so that a subject that had a message at the beginning has one.
//
// Of other streams what is removed meanwhile is missing, and what is stored
// meanwhile is not there.
//
// Concurrency: Take and Put may run at once on one connection, each on a stream
// of its own. The package knows nothing of what streams mean, and leaves no
// goroutine behind.
package snapshot
