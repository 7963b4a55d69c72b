package guard

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// A service lists what it has delayed page by page, as from JetStream. What the shards
// have together is more than one answer can take, and one shard has more than JetStream
// puts in a page.
func TestAServiceListsAllDelayedSubjectsOfSeveralShards(t *testing.T) {
	t.Parallel()
	const shards = 3
	env := natstest.Server(t, natstest.Services("LISTS"))
	nc := env.Conn(t)
	natstest.StreamsOfShards(t, nc, shards)
	g, err := Start(env.Conn(t), Options{Shards: shards, Logger: slog.New(slog.DiscardHandler)})
	testkit.Check(t, err)
	t.Cleanup(func() { g.Stop(testkit.Soon(t)) })

	js, err := jetstream.New(nc)
	testkit.Check(t, err)
	want := make(map[string]bool)
	for n, count := range []int{20, 100_050, 30} { // JetStream's page has 100,000
		for i := range count {
			subject := fmt.Sprintf("%suser-%d.phone.normal.%d", layout.LaterPrefix, n, i)
			want[subject] = true
			testkit.Check(t, nc.Publish(shard.At(n, shards).Subject(subject), nil))
		}
		testkit.Eventually(t, "all to be stored", func() bool {
			s, err := js.Stream(t.Context(), shard.At(n, shards).Stream(subjects.StreamLater))
			testkit.Check(t, err)
			return s.CachedInfo().State.Msgs == uint64(count)
		})
	}

	asks, err := jetstream.NewWithAPIPrefix(nc, "test.api", jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	sub, err := nc.Subscribe("test.api.>", func(m *nats.Msg) { // as the tenant's account maps it
		if answer := g.infoOfAll(m.Data); len(answer) <= natstest.MaxPayload {
			_ = m.Respond(answer)
		} else {
			t.Errorf("an answer of %d bytes", len(answer))
			_ = m.Respond([]byte(`{"error":{"code":503}}`))
		}
	})
	testkit.Check(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	later, err := asks.Stream(t.Context(), subjects.StreamLater)
	testkit.Check(t, err)
	info, err := later.Info(t.Context(), jetstream.WithSubjectFilter(subjects.Scope{}.Laters()))
	testkit.Check(t, err)
	for subject := range info.State.Subjects {
		if !want[subject] {
			t.Fatalf("%s is listed", subject)
		}
	}
	if len(info.State.Subjects) != len(want) || info.State.Msgs != uint64(len(want)) {
		t.Errorf("%d subjects of %d messages are listed, want %d", len(info.State.Subjects), info.State.Msgs, len(want))
	}
}
