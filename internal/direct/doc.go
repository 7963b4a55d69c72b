// Package direct reads stored messages by batched Direct Get (ADR-31): several
// requests under way on one connection, each with many messages in its answer,
// and lost ones sent again. nats.go has single gets only, and orbit.go's
// GetBatch hides how many messages are left.
//
// It owns the reading of stored messages and knows nothing of what they mean.
// On a replicated stream a follower answers, which may lag: do not believe
// "nothing there" above a sequence that is known to exist.
//
// Concurrency: all methods are safe for concurrent use.
package direct
