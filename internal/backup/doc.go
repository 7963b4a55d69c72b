// Package backup puts a running installation into one file, and makes a new
// data directory from it: streams and buckets, keys, account JWTs, and the
// NATS server's configuration.
//
// The file is a tar archive of mode 0600. Its last entries are a [Manifest],
// which has a checksum of each part, and a checksum of all that stands before,
// so that a file which was cut off, altered, or is something else, is refused
// before anything is written ([Open]). It guards against accidents: who can
// write the file can also make a new checksum.
//
// [Save] works over NATS while devices are served. The streams are not of one
// moment. They are read in an order in which nothing that was accepted before
// the beginning is lost: what points at another stream's sequences before that
// stream, what is moved from one stream to another before it is looked for at
// its destination. What moves meanwhile may come twice.
//
// [Restore] starts a NATS server on a new directory, in this process and
// without a listener, and stops it when all is there. The directory gets its
// content when all is checked; after an error it is as it was.
//
// Concurrency: the functions may be called at once for different files and
// directories. The package holds no state and no goroutine.
package backup
