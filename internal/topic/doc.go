// Package topic lets devices subscribe to topics: named streams of messages of
// a tenant, kept in one JetStream stream.
//
// One reader in each process (the [Hub]) follows the whole stream, and hands
// each message to the subscriptions of its topic. A [Subscription] is a
// position in its topic, which its owner pulls from: a bounded queue, and, when
// that was full or the subscription began in the past, what the store has. It
// joins the live flow under the hub's lock, so that there is no gap, no swap
// and no double between the two. A slow subscriber slows nobody and misses
// nothing that the stream still holds; of what it does not hold any more it is
// told, by a notice in its place. Nothing is acknowledged.
//
// A message is shared by all its subscribers, with the bytes that they are
// sent.
//
// Concurrency: all methods are safe for concurrent use. Lock order is Hub.mu,
// then Subscription.mu. The Ready function of a subscription is called with both
// held and must not block or call back.
package topic
