// Package clock notices when a wall clock is set ahead: that of the machine, or that of
// the server which stores a stream.
//
// JetStream forgets the ids of messages by the wall clock. When it is set an
// hour ahead, a message whose sender waited for its answer is stored twice, and
// nobody can tell. What a process can tell is that its clock jumped: timers go by
// the monotonic clock, which no one sets. So for as long as a store keeps ids,
// what is sent counts as what may be there already.
package clock
