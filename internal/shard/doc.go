// Package shard divides the users of a tenant among sets of streams and buckets.
//
// A [Shard] is one such set. It has an inbox stream, a cursor stream, and all
// else that belongs to a user's devices; topics, messages to services, events and
// accounts are the tenant's. A tenant with one shard has the names of package
// layout as they are. With more, the shard's number is in the names of its
// streams and buckets, and in the subjects that are published to. What is stored
// has the subjects of package layout again, because each stream transforms them.
//
// So only what asks NATS knows a Shard: package reader, package direct, the
// publisher of package inbox, and [Shard.JetStream]. They are told today's names,
// and give back today's subjects. Everything above them works for one shard and
// need not know how many there are.
//
// A Shard is a value. Its methods may be called from any goroutine.
package shard
