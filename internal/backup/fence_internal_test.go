package backup

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// A copy that lags behind has nothing of what was restored. Who believed it would
// remove delayed messages that nobody has had, or deliver others again.
func TestARestoreDoesNotBelieveACopyThatLags(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	nc := env.Conn(t)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	later, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: subjects.StreamLater, Subjects: []string{"later.*"}, AllowDirect: true})
	testkit.Check(t, err)
	inbox, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: layout.StreamInbox, Subjects: []string{"inbox.*"}, AllowDirect: true,
		Sources: []*jetstream.StreamSource{{
			Name: subjects.StreamLater, SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "later.*", Destination: "inbox.{{wildcard(1)}}"}},
		}},
	})
	testkit.Check(t, err)
	const n = 9
	var times []time.Time
	for i := range n {
		_, err := js.Publish(t.Context(), "later."+strconv.Itoa(i), nil)
		testkit.Check(t, err)
		info, err := later.Info(t.Context())
		testkit.Check(t, err)
		times = append(times, info.State.LastTime)
	}
	testkit.Eventually(t, "all is taken", func() bool {
		info, err := inbox.Info(t.Context())
		return err == nil && info.State.Msgs == n
	})
	for range lookBack + 500 { // from elsewhere
		_, err := js.PublishAsync("inbox.x", nil)
		testkit.Check(t, err)
	}
	<-js.PublishAsyncComplete()
	testkit.Check(t, later.DeleteMsg(t.Context(), 5))
	env.Lag(subjects.StreamLater)
	env.Lag(layout.StreamInbox)
	d := direct.New(nc)
	testkit.Check(t, d.Start())
	t.Cleanup(d.Stop)
	for at, want := range map[time.Time]uint64{
		times[0].Add(-time.Second): 1, times[0]: 1, times[3]: 4, times[4]: 5, times[4].Add(time.Nanosecond): 5, times[8]: 9, times[8].Add(time.Nanosecond): 10,
	} {
		got, err := nextDue(t.Context(), d, js, at)
		if err != nil {
			t.Fatal(err)
		}
		if got = max(got, 1); got != want && (want != 5 || got != 6) { // 5 is gone
			t.Errorf("the first stored at %s is %d, want %d", at, got, want)
		}
	}
	if taken, err := takenUpTo(t.Context(), nc, shard.Only, js); err != nil || taken != n {
		t.Errorf("taken up to %d, %v, want %d", taken, err, n)
	}
	testkit.Check(t, later.Purge(t.Context()))
	testkit.Check(t, inbox.Purge(t.Context()))
	if taken, err := takenUpTo(t.Context(), nc, shard.Only, js); err != nil || taken != 0 {
		t.Errorf("of an empty stream taken up to %d, %v", taken, err)
	}
	if next, err := nextDue(t.Context(), d, js, times[0]); err != nil || next != n+1 {
		t.Errorf("of an empty stream the next is %d, %v", next, err)
	}
}
