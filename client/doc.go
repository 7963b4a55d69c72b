// Package client is the Go SDK: it is one device of a user, connected to an
// edge over WebSocket, through lost links and restarts of the other side.
//
//	c, err := client.Dial(ctx, "ws://127.0.0.1:8080", &client.Options{
//		Credentials: client.CredentialsFile("phone.creds"),
//	})
//	…
//	client.HandleJSON(c, "user_message", func(ctx context.Context, text Text, m *client.Message) error {
//		return show(text) // nil acknowledges: it does not come again
//	})
//	err = c.Serve(ctx)
//
// # Messages
//
// A message goes to other devices of the same user: to whom its type says, or
// to whom a [SendOption] names. How it is sent is a choice of how much the
// sender wants to know:
//
//   - [Client.Send] and [Client.SendJSON] return when it is stored for all its
//     recipients, through lost links: it is sent again under its id, and stored
//     once.
//   - [Client.Track] waits for the same, and then tells what becomes of it at
//     each recipient: delivered, expired or replaced.
//   - [Client.Queue] does not wait. It keeps the message, in a file if
//     Options.Outbox names one, until the edge has accepted it.
//   - [Client.Post] does not wait and keeps nothing: the fastest way, for what
//     may be lost with the link.
//
// A durable message is handed on by [Client.Receive], [Client.Handle] or
// [Client.Serve] until it is acknowledged, and not again after that, as long as
// the Client lives: what the edge sends twice is recognised by its seq or by
// its sender and id. What an operator replays is handed on all the same.
// Acknowledge a message when you have done with it, not before; Handle and
// Serve do so when the handler returns nil. Acknowledgements travel together,
// and wait for that at most a millisecond.
//
// # Requests
//
// [Client.Request] asks another device, which must be online, and
// [Client.RequestStream] yields a response that comes in parts.
// [Client.HandleRequest], or Options.Requests, answers. A request lives no
// longer than the connection that carries it, on either side: it then ends with
// [ErrConnectionLost], and is not asked again. A context that ends cancels it,
// and the context of its handler at the other device ends too.
//
// # Topics
//
// [Client.Publish] stores a message in a topic of the tenant, and a
// [Subscription] reads one from now, from a time or from a seq on. It misses
// nothing that is stored: after a lost link, and after being read too slowly,
// it goes on where it was.
//
// # Devices
//
// [Client.Devices] lists the user's devices, Options.OnPresence hears when one
// comes, goes or changes its status, which [Client.SetStatus] sets.
//
// # Connections
//
// A lost connection is tried again at once, then after ever longer waits with
// jitter, which [Client.Retry] cuts short. It is known to be lost when nothing
// comes for two of the edge's ping intervals. A credential that ends is renewed
// on the live connection, from Options.Credentials, when half of its time is
// over. The client ends when it is closed, or when the edge says that it must
// not come back: see [Client.Done] and [CloseError].
//
// # End to end
//
// With Options.Seal a device has a key that the user's other devices seal
// messages to, by [Client.SendSealed], so that the servers cannot read them.
// They are opened as they are received: see [Message].Sealed, and what is
// protected in docs/security.md. Another device's key is pinned when it is first
// seen; when it changes, [Client.AcceptSealKey] must be called.
//
// # Concurrency
//
// All methods are safe for concurrent use. A Client has two goroutines while
// connected, a third when its credential can end, one for each request that it
// handles, and none after Close. Callbacks in [Options] are called from these,
// one at a time: they must return soon, must not call Close, and must not call
// what waits for an answer of the edge.
//
// # Errors
//
// What the edge refuses is a [*wire.Error], so that errors.Is(err,
// wire.DeviceNotFound) and the like work; what another device answers a request
// with is a [*wire.Failure].
//
// The package knows the protocol page and nothing of how the other side is
// made; it must not import anything of RCCS but wire and subjects.
package client
