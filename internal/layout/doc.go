// Package layout is how RCCS lays out a tenant's account on NATS: the streams and
// buckets that are its own, the subjects that its own parts use, and what a
// device, a service and a part may do.
//
// What devices and services use themselves is in package subjects. The two are
// the only places that build and parse subjects. All functions are pure and safe
// for concurrent use.
package layout
