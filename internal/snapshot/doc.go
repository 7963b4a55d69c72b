// Package snapshot moves one JetStream stream, with its durable consumers,
// into an archive and back, by the server's own snapshot API, while the stream
// is in use. An archive is one of nats-server 2.15: NATSARC1 below S2.
//
// The server's snapshot ends at the last sequence of one moment, and the messages
// are read after that. So a subject whose only message is replaced meanwhile would
// be missing: the old message is gone, and the new one comes too late. Of a stream
// that keeps the last message of each subject, such as a bucket's, [Source.Take]
// therefore also reads what was stored meanwhile and adds it: a subject that had a
// message at the beginning has one in the archive.
//
// An archive of any other stream has no message that was removed or stored
// meanwhile.
//
// Concurrency: Take and Put may run at once on one connection, each on a stream
// of its own. The package knows nothing of what streams mean, and leaves no
// goroutine behind.
package snapshot
