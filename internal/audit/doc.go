// Package audit keeps a record of what operators do and may not go unseen: who
// revoked, replayed, purged, forgot or drained, who read messages of another,
// who was enrolled; when, and from where.
//
// Records lie in a stream of the tenant that lets nobody change or remove them
// before their time, not even with the credential of a part of RCCS. They are
// written before the act, so that an act is not without one; only a revocation
// goes on without, in the keys, when no server can be reached. The whole stream
// can be deleted with the credential of a part, see docs/security.md; that it
// begins anew is seen.
package audit
