package topic_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// A subscriber that goes on from a sequence of another epoch, or from one that
// was not given out, begins anew with the first message stored, and is told.
func TestSubscriptionBeginsAnewAfterAnUnknownSequence(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.publish(t, "a", 0)
	last := p.publish(t, "a", 1)
	_, at := p.begin(t, topic.Since{})
	if at.Epoch == "" || at.Reset {
		t.Fatalf("begins %+v", at)
	}
	for name, c := range map[string]struct {
		since topic.Since
		reset bool
	}{
		"another epoch":       {topic.Since{FromSeq: true, Seq: first, Epoch: "another"}, true},
		"above the last":      {topic.Since{FromSeq: true, Seq: last + 1, Epoch: at.Epoch}, true},
		"the same epoch":      {topic.Since{FromSeq: true, Seq: first, Epoch: at.Epoch}, false},
		"no epoch":            {topic.Since{FromSeq: true, Seq: first}, false},
		"from the beginning":  {topic.Since{FromSeq: true, Epoch: "another"}, false},
		"the last one stored": {topic.Since{Last: true, Epoch: "another"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, at := p.begin(t, c.since)
			if at.Reset != c.reset {
				t.Fatalf("begins %+v", at)
			}
			if !c.reset {
				return
			}
			got := f.take(t, 3, 10)
			if m := got[0]; !m.Reset || m.LostFrom != 0 || m.Seq != first-1 || m.Reason != "reset" {
				t.Errorf("told %+v", m)
			}
			if got[1].Seq != first || got[2].Seq != last {
				t.Errorf("got %d and %d, want %d and %d", got[1].Seq, got[2].Seq, first, last)
			}
		})
	}
}

func TestEpochStaysOverARestartAndChangesWhenTheStreamLosesItsEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.publish(t, "a", 0)
	was := p.hub.Epoch()
	p = p.restart(t)
	if got := p.hub.Epoch(); got != was {
		t.Errorf("the epoch is %q after a restart, was %q", got, was)
	}
	p.mark(t, layout.FirstTopicSeq+1000)
	p = p.restart(t)
	if _, at := p.begin(t, topic.Since{}); at.Epoch == was || at.Epoch == "" {
		t.Errorf("the epoch is %q after the end was lost", at.Epoch)
	}
	was = p.hub.Epoch()
	if err := epoch.Renew(t.Context(), p.js, subjects.StreamTopic); err != nil {
		t.Fatal(err)
	}
	if _, at := p.begin(t, topic.Since{FromSeq: true, Seq: layout.FirstTopicSeq, Epoch: was}); !at.Reset {
		t.Errorf("begins %+v after a restore", at)
	}
}

// mark stores how far a hub has read.
func (p *place) mark(t *testing.T, head uint64) {
	t.Helper()
	body := []byte(`{"head":` + strconv.FormatUint(head, 10) + `}`)
	if _, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: layout.TopicMark, Data: body}); err != nil {
		t.Fatal(err)
	}
}

// While a cluster chooses a leader for the stream, a server may answer that has yet
// to apply its log: nothing was given out twice, and nobody begins anew.
func TestAServerThatLagsChangesNoEpochAndResetsNobody(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.publish(t, "a", 0)
	last := p.publish(t, "a", 1)
	_, was := p.begin(t, topic.Since{})
	p.mark(t, last)
	asked := p.env.Leaderless(subjects.StreamTopic, 1, 10)
	p = startPlace(t, p.env)
	if n := asked.Load(); n <= 10 {
		t.Fatalf("%d answers: those that lag were believed", n)
	}
	p.env.Leaderless(subjects.StreamTopic, 1, 10)
	_, at := p.begin(t, topic.Since{FromSeq: true, Seq: last, Epoch: was.Epoch})
	if at.Reset || at.Epoch != was.Epoch {
		t.Errorf("begins %+v, was %+v", at, was)
	}
}

// What is published under a name that no device can subscribe to is seen by who
// tells services, also when no hub ran.
func TestEachMessageIsExaminedAlsoThoseOfBefore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.publish(t, "a", 1)
	testkit.Eventually(t, "it is stored how far topics were read", func() bool { return p.marked(t) })
	if err := p.hub.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := p.publishRaw(t, "rccs.topic.user:42")
	seen := make(chan string, 10)
	hub, err := topic.New(topic.Options{Read: p.env.Conn(t), Fetch: p.env.Conn(t), Examine: func(subject string, seq uint64, _ int64, _ nats.Header) {
		seen <- fmt.Sprint(subject, " ", seq)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.hub = hub
	after := p.publishRaw(t, "rccs.topic.user:43")
	for _, want := range []string{fmt.Sprint("rccs.topic.user:42 ", before), fmt.Sprint("rccs.topic.user:43 ", after)} {
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("saw %s, want %s", got, want)
			}
		case <-time.After(waitTimeout):
			t.Fatalf("%s was not seen", want)
		}
	}
}

// marked reports whether it is stored how far topics were read.
func (p *place) marked(t *testing.T) bool {
	t.Helper()
	stream, err := p.js.Stream(t.Context(), layout.StreamCursor)
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.GetLastMsgForSubject(t.Context(), layout.TopicMark)
	return err == nil
}

// publishRaw stores an empty message under a subject, whatever that is.
func (p *place) publishRaw(t *testing.T, subject string) uint64 {
	t.Helper()
	ack, err := p.js.Publish(t.Context(), subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// Messages that were removed while the hub could not read are told to those who
// subscribe to their topic, though the hub never saw them.
func TestWhatWasRemovedUnreadIsTold(t *testing.T) {
	t.Parallel()
	env := natstest.Server(t, natstest.Listen())
	natstest.Streams(t, env.Conn(t))
	link := natstest.NewProxy(t, env.Addr())
	read := natstest.Dial(t, link.URL())
	p := &place{env: env, js: must(jetstream.New(env.Conn(t), jetstream.WithDefaultTimeout(testkit.Patience)))}
	p.hub = must(topic.New(topic.Options{Read: read, Fetch: env.Conn(t)}))
	if err := p.hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.hub.Stop(context.WithoutCancel(t.Context())) })
	f, _ := p.follow(t, "a", topic.Since{})
	had := p.publish(t, "a", 0)
	f.take(t, 1, 1)
	link.Cut()
	gone := p.publish(t, "a", 1)
	p.purge(t, gone+1)
	next := p.publish(t, "a", 2)
	link.Heal()
	got := f.take(t, 2, 2)
	if got[0].LostFrom != had+1 || got[0].Seq != gone || got[0].Reason != "retention" || got[1].Seq != next {
		t.Errorf("got %+v and %+v", got[0], got[1])
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // set-up that fails must end the test, and has no t at hand
	}
	return v
}
