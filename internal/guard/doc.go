// Package guard passes on to JetStream what backend services ask of it, where
// they could name a subject of the tenant's account: to create a consumer, which
// may deliver to a subject, and to purge delayed messages; and it stores delayed
// messages, of which headers could touch those of others. It also keeps the
// consumers of RCCS itself, which are on the same streams, out of their sight: a
// service that knew one could take its messages, delete it, or have it skip some.
//
// Services have an account of their own, which imports of the tenant's what
// [layout.ServiceImports] lists. A request that is listed there as guarded comes
// here. If it does no harm, the guard makes it again with its own rights. Otherwise
// it refuses it with an error as JetStream would give it. Any number of guards may run
// in an account: each request goes to one of them.
package guard
