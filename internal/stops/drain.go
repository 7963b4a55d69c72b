package stops

import (
	"context"

	"github.com/nats-io/nats.go"
)

// Drain ends a connection's subscriptions to requests. It returns when their
// handlers have been given what was on its way too, or ctx ends. (Unsubscribe
// drops what the server has already sent, and its requesters wait in vain.)
func Drain(ctx context.Context, nc *nats.Conn, subs ...*nats.Subscription) {
	ended := make(chan struct{}, len(subs))
	open := 0
	for _, sub := range subs {
		if !nc.IsConnected() { // nothing is on its way, and nats.go would wait for the server
			_ = sub.Unsubscribe()
			continue
		}
		sub.SetClosedHandler(func(string) { ended <- struct{}{} })
		if sub.IsValid() && sub.Drain() == nil {
			open++
		}
	}
	for range open {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
