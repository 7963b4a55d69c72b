// Package leader asks the servers of a stream how the stream is, and tells which
// answers to believe.
//
// A stream with several copies is answered for by its leader, which has applied
// all that was stored. There are two exceptions. While a stream has no leader,
// any of its servers answers with what it has applied itself. And a server that
// was paused or cut off still takes itself for the leader until it hears of the
// new one. Both may report an end below messages that were read, acknowledged or
// promised before. Whoever takes that for a loss tells devices of gaps that are
// none, and gives streams new epochs. So everything that compares a stream's end
// with what was known before asks here.
//
// All functions are safe for concurrent use. The package knows nothing of what
// the streams hold.
package leader
