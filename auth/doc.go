// Package auth owns identity: the operator's, the accounts' and the users'
// keys and JWTs of an installation, the credentials it issues, and the check
// of a credential at the edge.
//
// It is the chain that NATS servers check themselves (operator, account =
// tenant, user = device, service or part of RCCS), so one credential opens a
// WebSocket at an edge and a plain NATS connection.
//
//   - [Keystore] holds the keys of an installation, below its data directory,
//     and issues credentials. It needs no server.
//   - [Verifier] checks a device's token against the accounts' public keys and
//     revocations. It makes no call.
//
// # What a token says
//
// The claim name says who the user is. A device's is USER/DEVICE, and only a
// device's contains '/': a service's is service:NAME, a part of RCCS is
// rccs:NAME, and neither name may contain one. So a token of one role can never
// be taken for one of another.
//
// Nothing of identity is in JWT tags, since tools lower-case them. A device's
// type is in one, rccs-type:HEX, as the hex of its bytes: that survives.
//
// A user's key is derived from the account's seed and what the user is, so that
// all credentials of a device have one key, which need not be recorded to be
// revoked.
//
// # Promises
//
// A Keystore is immutable after opening, a Verifier may be used and updated
// from any goroutine. The package does no network I/O, starts no goroutine and
// logs nothing. Seeds leave it only inside a [Credential], which does not print
// them.
package auth
