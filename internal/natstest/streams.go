package natstest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/testkit"
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
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(startTimeout))
	testkit.Check(tb, err)
	if plan.Replicas <= 1 {
		testkit.Check(tb, backbone.Ensure(tb.Context(), js, plan))
		return js
	}
	eventually(tb, "the streams are there", func() bool { // a cluster that chooses a leader does not answer
		ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
		defer cancel()
		err := backbone.Ensure(ctx, js, plan)
		if err != nil {
			tb.Logf("natstest: make the streams: %v", err)
		}
		return err == nil
	})
	return js
}
