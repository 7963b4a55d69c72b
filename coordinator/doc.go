// Package coordinator is a part for cmd/rccs and tests: it does what needs one
// owner in a tenant. It finds the devices for what services publish to a
// selector, and gives what waits to the first device that comes online. It tells
// senders who asked of messages that expired, ends the sessions of dead edges,
// and answers services, operators, and devices on plain NATS.
//
// Any number of coordinators may serve a tenant at once. They do not know of
// each other: each follows the same streams, and what they store has message
// ids, or is a compare-and-set, by which the first counts. A request is
// answered by one of them. Without any coordinator, messages between devices
// still flow; what waits goes on waiting.
//
// It is not on the path of messages between devices. It must not be asked for
// what an edge can find out itself, and it never answers to a subject that the
// requester could not have heard or written itself, see [Coordinator].
//
// Concurrency: all methods of a [Coordinator] are safe for concurrent use.
// Callbacks of NATS and of the roster only put work into queues; it is done by
// pools of bounded size, what concerns one user by one worker at a time.
//
// A newcomer starts at router.go (what is routed, and in which order), then
// give.go (one message) and service.go (requests).
package coordinator
