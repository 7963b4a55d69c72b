// Package e2e tests the built program from outside, against docs/protocol.md.
//
// It owns no code but tests. They know RCCS as a stranger does who reads the
// protocol: a WebSocket client of their own on gorilla/websocket, raw TCP where
// that is too polite, nats.go with ordinary credentials, and the commands. They
// must not import any other package of this module, so that a mistake made
// there is not made here too.
//
// The program is built once, with the race detector, and most tests share one
// server, each with users of its own: neighbours are part of the test. Tests
// that kill, stop, fill or configure a server start one for themselves. A
// data race, a panic or an unexpected end of any server fails the suite.
//
// A test is named after the section of the protocol whose promise it holds:
// TestProtocol_5_… for section 5. Others are TestRFC6455_…, TestFault_…,
// TestCommand_…, TestAdmin_… and TestTour.
package e2e
