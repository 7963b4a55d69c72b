// Package reader follows one JetStream stream from a known sequence and hands
// every message to one function, in order, each exactly once, for as long as
// the process lives. It is how an edge reads the whole inbox stream, and how
// rosters read their buckets.
//
// It owns its pull consumer (ephemeral, no acks, in memory) instead of using
// nats.go's ordered consumer, which was measured silent for 11 to 25 s after
// the kill of a leader. The reader checks that the consumer's own sequence has
// no hole, that heartbeats come while nothing else does, and that the NATS
// connection has not been re-established behind its back. When any of these
// fails it drops the consumer and starts another from the last sequence it
// handed out, plus one.
//
// Concurrency: Handle runs on one goroutine at a time and must not block.
// Reader's methods are safe for concurrent use. The package knows nothing of
// devices or envelopes.
package reader
