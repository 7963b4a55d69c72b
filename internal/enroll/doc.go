// Package enroll gives a device its credential without a file being handed
// around: the device makes its own key, proves that it has it, says by a claim
// whose it is, and is signed a token.
//
//   - [Service] decides. It needs what can sign, so it runs beside a
//     coordinator that has the installation's keys.
//   - [Gateway] is the HTTP side at an edge. It has no key and decides nothing.
//   - A claim is a one-time code, which [Service.NewCode] makes, or a third
//     party's token, which a [TokenVerifier] checks.
//
// # Promises
//
// A code is redeemed once, whoever races for it, by compare-and-set on its
// entry. It is stored as an HMAC whose key only the installation has. Wrong
// guesses are bounded per address and in all.
//
// A signed request is accepted once. Its time lies within [clockSkew] of the
// clock here, and rises from one request of a key to the next: what was accepted
// is recorded with the key before a token is signed.
//
// Every key that was signed for is recorded with its device beforehand, so that
// a revocation finds it.
//
// A Service may be used from any goroutine; it starts none.
package enroll
