package leader

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// longest bounds the last try of [Patient]. With those before it, a start waits for
// more than a minute.
const longest = 8 * attempt

// Patient asks again what was not answered, and gives each try twice as long as the
// one before: an answer may have been lost, or the server may be slow. It is for
// requests without which a process cannot start.
func Patient[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for within := attempt; ; within *= 2 {
		try, done := context.WithTimeout(ctx, within)
		got, err := ask(try)
		done()
		if err == nil || !Unanswered(err) || ctx.Err() != nil || within >= longest {
			return got, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return got, err
		}
	}
}

// Bucket opens a bucket as [Patient] does.
func Bucket(ctx context.Context, js jetstream.JetStream, name string) (jetstream.KeyValue, error) {
	return Patient(ctx, func(ctx context.Context) (jetstream.KeyValue, error) { return js.KeyValue(ctx, name) })
}

// Stream looks up a stream as [Patient] does.
func Stream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	return Patient(ctx, func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, name) })
}
