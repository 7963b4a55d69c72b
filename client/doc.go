// Package client is the Go SDK: it is one device of a user, connected to an
// edge over WebSocket, through lost links and restarts of the other side.
//
//	c, err := client.Dial(ctx, "ws://127.0.0.1:8080", &client.Options{
//		Credentials: client.CredentialsFile("phone.creds"),
//	})
//	…
//	err = c.Handle(ctx, func(ctx context.Context, m *client.Message) error {
//		fmt.Println(m.Type, string(m.Payload))
//		return nil // acknowledged: it does not come again
//	})
//
// It owns the connection and its renewal, the registration, acknowledgements,
// and what was sent and not yet answered. It knows the protocol page and
// nothing of how the other side is made; it must not import anything of RCCS
// but wire and subjects.
//
// # What it promises
//
// A durable message is handed on until it is acknowledged, and not again after
// that, as long as the Client lives: what the edge sends twice is recognised
// by its seq or its id. Acknowledge a message when you have done with it, not
// before. [Client.Send] returns when the message is stored; after a lost link
// it sends again under the same id, so that it is stored once.
//
// # Concurrency
//
// All methods of [Client] and [Message] are safe for concurrent use. A Client
// runs two goroutines while connected, one otherwise, and none after Close.
// Callbacks in [Options] are called from these: they must return soon and must
// not call Close.
package client
