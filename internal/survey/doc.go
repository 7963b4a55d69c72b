// Package survey looks at what a tenant has stored, every few seconds, and
// keeps it as metrics: how full streams are, who leads them, how far copies are
// behind, and how many messages wait for their devices, since when.
//
// A scrape reads numbers that are there; it asks nobody. One goroutine looks at
// all tenants, one after the other, and rests for at least three times as long as
// a round took, so that any number of tenants costs at most a quarter of one core.
// It reads each cursor that changed since the last round. It reads a message only
// to find out since when it waits.
//
// It must not write anything, and it must not be needed: what it finds is for
// people.
package survey
