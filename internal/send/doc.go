// Package send is the one way in for a message of a device or a service:
// [Intake.Send] takes a sender and an envelope, and answers with what was
// accepted or with the error that the sender is told. Its callers translate and
// nothing else: an edge for WebSocket, the coordinator for plain NATS, and the
// HTTP API.
//
// # The way of a message
//
//	Start       checks what goes together, and who sends; its rate
//	toNamed     the short way: one registered device, one message
//	route       whom it is for: roster.Route, or the holder of its task
//	toDevices   whether each inbox has room; now, or later
//	storeOne    one copy
//	fanOut      several, one by one: the first names them all (ADR 14)
//	done        what the store answered, as what was accepted or an error
//
// # Promises
//
// An [Intake] is safe for concurrent use. Messages of one sender are stored in
// the order of the calls, if those follow each other: a call returns when
// nothing that comes later can overtake its message. It then waits for nobody;
// the answer comes by [Waiter.Sent], once, perhaps before the call returns.
// Start may wait for the store when the message has several recipients, belongs
// to a task, or when a recipient's inbox has to be counted.
//
// It must not keep the envelope after the call: that aliases the frame that it
// came in.
package send
