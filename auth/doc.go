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
// Concurrency: a Keystore is immutable after opening; a Verifier may be used
// and updated from any goroutine. The package does no network I/O and logs
// nothing; seeds leave it only inside a [Credential].
package auth
