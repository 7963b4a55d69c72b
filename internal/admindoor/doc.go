// Package admindoor owns the rule by which a request to the admin address
// counts as the operator's although it has no token: it came from this machine,
// and no web page made the browser send it.
//
// It is a leaf without state; everything in it is safe for concurrent use. It
// must not read tokens: a request that has one is let in by the caller.
package admindoor
