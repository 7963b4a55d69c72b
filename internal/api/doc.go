// Package api is the HTTP API: what a backend without NATS, the console and
// scripts can do, as JSON under /v1, described by an OpenAPI 3.1 document.
//
// It owns the translation between HTTP and the rest and nothing else: who asks
// (a service, an operator), the form of requests and answers, streams of
// events. What is done is done by internal/send, internal/roster, internal/ops,
// internal/enroll and internal/revoke, as it is for devices, for NATS and for
// the commands. It must not decide where a message goes, read a stream in its
// own way, or log a token, a cookie or a payload.
//
// Concurrency: an [API] is safe for concurrent use, and so are its handlers. A
// stream of events lives in its request's goroutine, with one reader that
// waits while the client is slow.
package api
