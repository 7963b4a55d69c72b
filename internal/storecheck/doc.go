// Package storecheck checks the files of a JetStream store before a server opens
// it, and mends them.
//
// nats-server cuts a block of its store at the first record whose checksum is
// wrong, and gives the sequences behind it out again. So all blocks that may have
// changed since the store was closed in order are checked first. Of a damaged one
// a link is kept in DIR/damaged. With one copy it is mended: what cannot be read
// becomes a deleted message, and what lies behind it stays under its sequence. In
// a cluster all of the stream goes aside, and comes again from another server.
//
// The package knows the format of the files and imports no server, so that its
// fuzz targets are fast. No server may run on the directory meanwhile.
package storecheck
