// Package proof owns what tells RCCS's own words from those of a service: a key
// of the tenant, which its parts read from a bucket that services do not reach,
// and the tags that it makes.
//
// A tag is an HMAC of what it stands for. As a Nats-Msg-Id it is an id that
// nobody else can use before RCCS does; in a header it shows that a part of RCCS
// wrote the message. What a tag stands for begins with a purpose, so that one
// that a service may read is of no use elsewhere.
//
// A Key is safe for concurrent use. Only [Load] does I/O. The package must not
// decide what becomes of a message without a tag.
package proof
