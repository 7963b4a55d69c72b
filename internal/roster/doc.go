// Package roster knows the devices of a tenant: what each one is, and which of
// them are online and where. One pure function decides which of a user's devices
// a message is for.
//
// It owns three buckets: one says what each device is, one which edge holds each
// device's session, and one has the edges' leases. One reader follows each bucket
// for the whole process; there is no watcher for each user. All rosters see the
// changes of a bucket in the order in which they were stored, and report each of
// them once.
//
// An edge opens a session for each device that connects ([Roster.Open]), by
// compare-and-set. Of several edges the one with the highest epoch holds the
// device, and the others are told that they have lost it. An edge that dies stops
// renewing its lease. Any roster may then write its sessions offline
// ([Roster.Sweep]). If the edge is alive after all, it writes them online again.
//
// Concurrency: all methods are safe for concurrent use. Records are immutable.
// Only Start, Stop, Open and Sweep wait for the store: every write goes through
// one queue and one goroutine. Callbacks must not block.
//
// The package must not talk to devices, and must not route messages: [Route] only
// says where a message has to go.
package roster
