package node

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// asking looks at two streams on a connection, with little patience.
func asking(t *testing.T, nc *nats.Conn) (look func() error) {
	t.Helper()
	js, err := jetstream.New(nc)
	testkit.Check(t, err)
	w := newAnswerWatch(js, everyStream)
	w.bound, w.within = time.Millisecond, 200*time.Millisecond
	return func() error {
		w.poll(t.Context(), []string{subjects.StreamUp, subjects.StreamTopic})
		return w.healthy(everyStream)
	}
}

// A stream that answers nobody, or has no leader, is told with its name and what to
// do, and is well when it answers again.
func TestAStreamThatAnswersNobodyIsToldUntilItAnswers(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	natstest.Streams(t, env.Conn(t))
	look := asking(t, env.Conn(t))
	told := func(want string) {
		testkit.Eventually(t, want, func() bool {
			err := look()
			return err != nil && strings.Contains(err.Error(), "stream RCCS_UP "+want)
		})
	}
	well := func() {
		testkit.Eventually(t, "all streams answer", func() bool { return look() == nil })
	}
	for range askTurns { // each has its turn
		_ = look()
	}
	well()
	again := env.Answer("$JS.API.STREAM.INFO."+subjects.StreamUp, func(*nats.Conn, *nats.Msg) {})
	told("answers nobody: restart the server")
	again()
	well()
	const questions = 1000
	env.Leaderless(subjects.StreamUp, 0, questions)
	told("has no leader: " + ops.FindLeader)
}

// While the connection does not answer, nothing is said of streams.
func TestAStreamIsNotSilentBecauseTheConnectionIs(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	natstest.Streams(t, env.Conn(t))
	proxy := natstest.NewProxy(t, env.Addr())
	look := asking(t, natstest.Dial(t, proxy.URL()))
	proxy.Freeze()
	defer proxy.Heal()
	for range askTurns + 2*ops.SilentAsked {
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
}

// What nobody needs here is not asked.
func TestAStreamIsAskedOnlyWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	natstest.Streams(t, env.Conn(t))
	var up, topic atomic.Int64
	env.Answer("$JS.API.STREAM.INFO.*", func(_ *nats.Conn, m *nats.Msg) {
		if strings.HasSuffix(m.Subject, subjects.StreamTopic) {
			topic.Add(1)
		} else {
			up.Add(1)
		}
	})
	js, err := jetstream.New(env.Conn(t))
	testkit.Check(t, err)
	w := newAnswerWatch(js, func(name string) bool { return name == subjects.StreamTopic })
	w.within = 200 * time.Millisecond
	testkit.Eventually(t, "the one that is needed is asked again and again", func() bool {
		w.poll(t.Context(), []string{subjects.StreamUp, subjects.StreamTopic})
		return topic.Load() >= ops.SilentAsked
	})
	if n := up.Load(); n > 0 {
		t.Errorf("the other one was asked %d times", n)
	}
}
