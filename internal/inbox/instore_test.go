package inbox_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A server of a cluster may refuse a message as one that is being stored for as
// long as it remembers ids, though it is in the stream. Here it stores without
// an answer, and the answer is that refusal.
func TestAMessageThatIsSaidToBeBeingStoredIsLookedForInTheStream(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	nc := env.Conn(t)
	js := must(jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience)))
	must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, NoAck: true, AllowDirect: true}))
	must(nc.Subscribe("s.>", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"S","seq":0}`))
	}))
	testkit.Check(t, nc.Flush())
	const before = 600 // more than is read at a time
	for n := range before {
		m := nats.NewMsg("s.a")
		m.Header.Set(jetstream.MsgIDHeader, fmt.Sprint("other ", n))
		testkit.Check(t, nc.PublishMsg(m))
	}
	testkit.Eventually(t, "the others are stored", func() bool {
		return must(must(js.Stream(t.Context(), "S")).Info(t.Context())).State.Msgs == before
	})
	pub := must(inbox.NewPublisher(env.Dialer(), nil))
	t.Cleanup(pub.Stop)
	type answer struct {
		r   inbox.Receipt
		err error
	}
	answers := make(chan answer, 1)
	m := nats.NewMsg("s.a")
	m.Header.Set(jetstream.MsgIDHeader, "mine")
	pub.Publish(m, func(r inbox.Receipt, err error) { answers <- answer{r, err} })
	if got := testkit.Await(t, "answer", answers); got.err != nil || !got.r.Duplicate || got.r.Seq != before+1 {
		t.Errorf("answered %+v, %v; want the duplicate %d", got.r, got.err, before+1)
	}
}

// One that is not there is not known to be stored, and Stop does not wait for it.
func TestStopEndsTheLookForAMessageThatIsNotThere(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t)
	nc := env.Conn(t)
	js := must(jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience)))
	must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"other"}, AllowDirect: true}))
	asked := make(chan struct{}, 1)
	must(nc.Subscribe("s.a", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"S","seq":0}`))
		asked <- struct{}{}
	}))
	testkit.Check(t, nc.Flush())
	pub := must(inbox.NewPublisher(env.Dialer(), nil))
	answers := make(chan error, 1)
	m := nats.NewMsg("s.a")
	m.Header.Set(jetstream.MsgIDHeader, "mine")
	pub.Publish(m, func(_ inbox.Receipt, err error) { answers <- err })
	testkit.Await(t, "publish", asked)
	pub.Stop()
	if err := testkit.Await(t, "answer", answers); err == nil {
		t.Error("it counts as stored")
	}
}
