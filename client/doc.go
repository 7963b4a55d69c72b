// Package client is the Go SDK of RCCS. A [Client] is one device of a user,
// connected to an edge over WebSocket. It comes back by itself after a lost
// connection or a restart of the other side, and loses nothing on the way.
//
// # Start here
//
// A device connects with its credential, which 'rccs creds device' or
// [Enroll] makes:
//
//	c, err := client.Dial(ctx, "wss://edge.example.com", &client.Options{
//		Credentials: client.CredentialsFile("phone.creds"),
//	})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//
// It sends to another device of the same user, and knows that the message is
// stored when SendJSON returns:
//
//	_, err = c.SendJSON(ctx, "approval", Approval{Deploy: "v1.2"}, client.To("desktop"))
//
// It deals with what comes in handlers, one for each type of message:
//
//	client.HandleJSON(c, "approval", func(ctx context.Context, a Approval, m *client.Message) error {
//		return show(a) // nil acknowledges the message: it does not come again
//	})
//	err = c.Serve(ctx)
//
// # Sending
//
// Options say for whom a message is ([To] and the other functions of
// [Recipients]) and how it is delivered (the functions that begin with With).
// Each way to send makes one promise:
//
//   - [Client.SendJSON] and [Client.Send] return when the message is stored for
//     all its recipients. Through lost connections the message is sent again
//     under its id, and stored once.
//   - [Client.Track] does the same, and then tells what becomes of the message
//     at each recipient: see [Outcome].
//   - [Client.Enqueue] does not wait. It keeps the message, in a file if
//     Options.Outbox names one, until the edge has accepted it.
//   - [Client.SendNoWait] does not wait and keeps nothing: it is the fastest way,
//     for messages that may be lost with the connection.
//
// # Receiving
//
// A durable message is handed to its handler, or returned by [Client.Receive],
// until it is acknowledged, and not after that: the client recognises what it
// was sent twice by its seq, or by its sender and id, for as long as the client
// lives. What an operator replays is handed on all the same.
//
// Acknowledge a message when you have dealt with it, not before: what is not
// acknowledged comes again, what is acknowledged is gone. [Client.Serve]
// acknowledges when the handler returns nil. A message that the device will
// never be able to deal with is refused: the handler returns [Reject], or the
// program calls [Message.Reject]. Then the sender and the operators are told, and
// it holds up nothing behind it. A message that the client itself cannot read is
// refused as well, and Options.OnUnreadable hears of it.
//
// All this is so with the acknowledgements that the client uses by default,
// [wire.AckExplicit]. With [wire.AckAuto] a message counts as delivered when the
// edge has written it to the socket: a connection that is lost, or a process
// that ends, loses messages that their senders were told are delivered.
//
// Messages that nobody could get any more, because they were stored for too
// long or an operator purged them, are told by Options.OnGap, never passed over
// in silence.
//
// # Requests
//
// [Client.Request] asks another device, which must be online, and
// [Client.RequestStream] yields a response that comes in parts.
// [Client.HandleRequest], or Options.Requests, answers. A request lives no
// longer than the connection that carries it, on either side: it then ends with
// [ErrConnectionLost], and is not asked again. A context that ends cancels the
// request, and with it the context of the handler at the other device.
//
// # Topics
//
// [Client.Publish] stores a message in a topic of the tenant, and a
// [Subscription] reads a topic from now, from a time or from a seq on. A
// subscription misses nothing that is stored: after a lost connection, and after
// being read too slowly, it goes on where it was.
//
// # Devices
//
// [Client.Devices] lists the user's devices. Options.OnPresence hears when one
// comes, goes or changes its status, which [Client.SetStatus] sets.
//
// # Connections
//
// A lost connection is tried again at once, then after ever longer waits with
// jitter, which [Client.Retry] cuts short. A connection counts as lost when
// nothing has come for two of the edge's ping intervals. A credential that ends
// is renewed on the live connection, from Options.Credentials, when half of its
// time is over. If it ends first, for example while the machine sleeps, the
// client asks for another until it gets one. An edge may send the client to
// another edge; the client remembers it.
//
// The client ends when it is closed, or when the edge says that it must not come
// back: see [Client.Done] and [CloseError].
//
// # End to end
//
// With Options.Seal a device has a key that the user's other devices seal
// messages to, by [Client.SendSealed], so that the servers cannot read them.
// They are opened as they are received: see [Message].Sealed, and what is
// protected in docs/security.md. Another device's key is pinned when it is first
// seen. When it changes, [Client.AcceptSealKey] must be called.
//
// # Concurrency
//
// All methods of all types are safe for concurrent use, except that one
// [Message], [Request] or [Tracked] is best left to one goroutine at a time.
// The package-level functions may be called at any time.
//
// A Client has two goroutines while it is connected, a third when its credential
// can end, one for each request that it handles, and none after Close.
// Handlers of messages run in the goroutine that called Serve: call Serve
// several times to handle several messages at a time. Handlers of requests run
// in a goroutine each, at most 256.
//
// Callbacks in [Options] run one at a time, in a goroutine of the client. They
// must return soon, must not call Close, and must not call what waits for an
// answer of the edge.
//
// # Errors
//
// What the edge refuses is a [*wire.Error], so that errors.Is(err,
// wire.DeviceNotFound) and the like work. What another device answers a request
// with is a [*wire.Failure].
//
// The package knows the protocol page and nothing of how the other side is
// made; of RCCS it imports wire and subjects only, so that a program which uses
// it needs none of the server's dependencies.
package client
