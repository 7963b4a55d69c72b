// Package localcluster runs a cluster of RCCS on one machine, to try it: three
// servers of NATS with a coordinator each, and edges apart from them, each a process of
// its own below one directory. Production is the same processes on machines of
// their own; docs/cluster.md says how.
//
// [Plan] lays the directory out, [Plan.Processes] says what is to run, [Run]
// runs it.
package localcluster
