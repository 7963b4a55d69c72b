// Package audit records those acts of operators that must not go unseen: who
// revoked, replayed, purged, forgot or drained, who read messages of another,
// who was enrolled; when, and from where.
//
// Records lie in a stream of the tenant. Nobody can change a record, or remove it
// before its time, not even with the credential of a part of RCCS. A record is
// written before its act, so that there is no act without one. The exception is a
// revocation while no server can be reached: it is made in the keys, without a
// record. The credential of a part can delete the whole stream, see
// docs/security.md; then it is seen that the record begins anew.
package audit
