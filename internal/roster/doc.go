// Package roster knows the devices of a tenant: what each one is, and, in one
// pure function, which of a user's devices a message is for.
//
// One reader follows the devices' bucket for the whole process; there is no
// watcher a user. What this process itself registers is known at once, before
// the bucket has it.
//
// Concurrency: all methods are safe for concurrent use. Records are immutable.
package roster
