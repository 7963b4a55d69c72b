// Package tlsfiles keeps the certificate of a listener as its files say, while
// the listener serves. It owns reading and checking the files, noticing that
// they changed, and the [crypto/tls.Config] that every handshake begins with.
//
// What was negotiated stays: a connection keeps the certificate that it was
// opened with, and none is closed because the files changed. Files that cannot
// be used keep what was in use, and are told in the log with what mends them.
// Keys and certificates never reach the log.
//
// A [Store] may be used by any number of goroutines.
package tlsfiles
