// Package roster knows the devices of a tenant: what each one is, which of
// them are online and where, and, in one pure function, which of a user's
// devices a message is for.
//
// It owns three buckets. One holds what each device is, one which edge holds
// each device's session, and one the edges' leases. One reader follows each of
// them for the whole process; there is no watcher a user. The store's order is
// everybody's order: what a bucket says once, every roster tells once.
//
// An edge opens a session for each device that connects ([Roster.Open]), by
// compare-and-set, so that of several edges the one with the highest epoch
// holds the device and the others hear that they have lost it. An edge that
// dies stops renewing its lease; any roster may then write its sessions
// offline ([Roster.Sweep]), and an edge that was only taken for dead writes
// them online again.
//
// Concurrency: all methods are safe for concurrent use. Records are immutable.
// Nothing but Start, Stop, Open and Sweep waits for the store: what is to be
// stored goes through one queue and one goroutine. Callbacks must not block.
//
// The package must not talk to devices, and must not route: [Route] only says
// where a message is to go.
package roster
