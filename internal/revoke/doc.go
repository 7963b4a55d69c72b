// Package revoke ends credentials, and gives them back, on all that serves: the
// NATS servers, by public key, and the edges, by name too.
//
// What is revoked stands in the account's JWT, which only a process with the
// installation's keys can sign. The JWT that all of them apply lies in a bucket of the
// tenant. A change begins from that one, since it may have been made with the
// keys of another server, and is stored by compare-and-set, so that of two
// changes at once none is lost. Without a server within reach a change is made
// in the keys alone; the next server that starts with them brings it together
// with what others changed meanwhile.
package revoke
