// Package headers tells what the headers of a message from NATS prove: who asked,
// and whether the NATS client has read all of them.
//
// A publisher writes what headers it likes. NATS servers add theirs behind those,
// and RCCS must not take the one for the other.
package headers
