// Package coordinator does what needs one owner in a tenant. It is a component
// for cmd/rccs and tests. It finds the devices for messages that services
// publish to a route, and gives waiting messages to the first suitable device that
// comes online. It tells senders that asked when messages expire, ends the
// sessions of dead edges, and answers services, operators, and devices on plain
// NATS.
//
// Any number of coordinators may serve a tenant at once. Each request is answered
// by one of them, and they divide the shards: the work on what a shard has stored
// is one coordinator's, see members.go. That saves work and is no lock. What they
// store is either a compare-and-set or has a message id, so that of two that do the
// same the first counts. Without any coordinator, messages between devices still
// flow, and waiting messages go on waiting.
//
// It is not on the path of messages between devices. It must not be asked for
// what an edge can find out itself. It never answers on a subject on which the
// requester could not have been answered anyway; see [Coordinator].
//
// Concurrency: all methods of a [Coordinator] are safe for concurrent use.
// Callbacks of NATS and of the roster only queue work, which pools of bounded
// size do. The work of one user is done by one worker at a time.
//
// A newcomer starts at router.go (what comes to be routed), then queue.go (one
// user's messages, and when a worker comes), pass.go (in which order), route.go
// (one message), service.go (requests) and duty.go (what one coordinator does for
// a shard).
package coordinator
