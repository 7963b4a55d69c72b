// Package share owns how much of a tenant's store the devices of one user, and
// one device, may take: of inboxes, delayed messages, messages to services,
// topics, messages that wait for a suitable device, and tasks. So whoever fills
// his own share stops, and all others go on.
//
// # How it counts
//
// [Shares.Admit] adds what is to be stored to what the store held when it was
// looked at last. A look reads the headers of what is stored of one user (of
// topics, of all users), and is exact. It is made in the background when a share
// may be three quarters full, and again while it is. Between looks the count is
// off by what other processes have stored and by what has gone, at most an
// eighth of the share for each process, and by what is on its way.
//
// # What makes room
//
// A look also removes, the oldest first, what nobody waits for: messages of an
// inbox that the device has acknowledged, messages to services that every
// consumer has acknowledged, and messages of a topic up to the first one that
// another user or a service has published to it. So a share is full only of what
// waits; then Admit answers QUEUE_FULL, which bound it was, and when to come back.
//
// With [Options].ClearEvery the whole of inboxes, and of messages to services, is
// kept clear in the same way, since many users can fill it who are each within
// their shares.
//
// Shares is safe for concurrent use. Admit asks nobody and does not wait. The
// package must not decide how much a tenant may store: that is the streams'
// configuration.
package share
