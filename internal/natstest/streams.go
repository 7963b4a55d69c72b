package natstest

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
)

// Streams is JetStream on nc, after the streams and buckets of RCCS were made
// there as a fresh installation has them.
func Streams(tb testing.TB, nc *nats.Conn) jetstream.JetStream {
	tb.Helper()
	return StreamsOn(tb, nc, 1)
}

// StreamsOn is [Streams] with so many copies of each.
func StreamsOn(tb testing.TB, nc *nats.Conn, replicas int) jetstream.JetStream {
	tb.Helper()
	return streams(tb, nc, backbone.Plan{Replicas: replicas})
}

// StreamsOfShards is [Streams] for a tenant with so many shards. The account does
// not map subjects to shards.
func StreamsOfShards(tb testing.TB, nc *nats.Conn, shards int) jetstream.JetStream {
	tb.Helper()
	return streams(tb, nc, backbone.Plan{Shards: shards})
}

func streams(tb testing.TB, nc *nats.Conn, plan backbone.Plan) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatalf("natstest: JetStream: %v", err)
	}
	if err := backbone.Ensure(tb.Context(), js, plan); err != nil {
		tb.Fatalf("natstest: %v", err)
	}
	return js
}
