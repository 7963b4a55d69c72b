package topic_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// keep removes all but the newest messages of a topic.
func (p *place) keep(t *testing.T, name string, n uint64) {
	t.Helper()
	stream, err := p.js.Stream(t.Context(), subjects.StreamTopic)
	testkit.Check(t, err)
	subject, err := subjects.Topic(name)
	testkit.Check(t, err)
	testkit.Check(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(n)))
}

// forget has the hub hold no more in memory of what was stored before.
func (p *place) forget(t *testing.T) {
	t.Helper()
	f, _ := p.follow(t, "large", topic.Since{})
	for range 20 {
		_, err := p.js.Publish(t.Context(), "rccs.topic.large", make([]byte, 512<<10))
		testkit.Check(t, err)
		f.take(t, 1, 1)
	}
}

// A subscriber that goes on from the end of a gap stands on no message of its
// topic. What its topic lost behind it is told, and nothing where nothing was
// lost, though the message of another topic at which it stands is stored.
func TestWhatIsGoneBehindTheEndOfAGapIsTold(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"the hub has read it": false, "the hub has not": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.publish(t, "other", 0)
			var seqs []uint64
			for n := range 5 {
				seqs = append(seqs, p.publish(t, "a", n))
			}
			ahead := topic.Since{FromSeq: true, Seq: seqs[4] + 100}
			f, at := p.begin(t, ahead)
			to := f.take(t, 6, 10)[0].Seq
			if !at.Reset || to != seqs[0]-1 {
				t.Fatalf("begins %+v, told up to %d", at, to)
			}
			since := topic.Since{FromSeq: true, Seq: to, Epoch: at.Epoch}
			f, _ = p.begin(t, since)
			if got := f.take(t, 5, 10); got[0].Notice() || got[0].Seq != seqs[0] {
				t.Fatalf("before anything is gone it gets %+v", got[0])
			}
			p.keep(t, "a", 2)
			if restart {
				p = p.restart(t)
			} else {
				p.forget(t)
			}
			f, _ = p.begin(t, since)
			got := f.take(t, 3, 10)
			if got[0].LostFrom != to+1 || got[0].Seq != seqs[3]-1 || got[0].Reason != "purged" {
				t.Errorf("told %+v, want from %d to %d", got[0], to+1, seqs[3]-1)
			}
			if got[1].Seq != seqs[3] || got[2].Seq != seqs[4] {
				t.Errorf("then come %d and %d", got[1].Seq, got[2].Seq)
			}
		})
	}
}

// A topic of which all is gone begins anew with what comes from then on, and not
// with what the hub still has in memory.
func TestATopicOfWhichNothingIsStoredBeginsWithWhatComes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	f, _ := p.begin(t, topic.Since{})
	last := p.publish(t, "a", 0)
	f.take(t, 1, 1)
	p.purge(t, last+1)
	f, at := p.begin(t, topic.Since{FromSeq: true, Seq: last + 1})
	next := p.publish(t, "a", 1)
	got := f.take(t, 2, 2)
	if !at.Reset || !got[0].Reset || got[0].Seq != 0 || got[1].Seq != next {
		t.Errorf("got %+v and %+v, want a reset and %d", got[0], got[1], next)
	}
}

// Who subscribed while nothing was stored is told of what came and went while it
// was away, and of nothing where nothing came.
func TestWhatCameAndWentSinceAnEmptyBeginningIsTold(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.publish(t, "other", 0)
	_, at := p.begin(t, topic.Since{})
	if at.Last != 0 || at.Since == 0 {
		t.Fatalf("began at %+v", at)
	}
	p.publish(t, "other", 1)
	_, again := p.begin(t, topic.Since{FromSeq: true, Seq: at.Since, Epoch: at.Epoch})
	if again.Reset {
		t.Errorf("began again at %+v", again)
	}
	gone := p.publish(t, "a", 0)
	p.keep(t, "a", 0)
	p.forget(t)
	f, _ := p.begin(t, topic.Since{FromSeq: true, Seq: at.Since, Epoch: at.Epoch})
	next := p.publish(t, "a", 1)
	got := f.take(t, 2, 2)
	if !got[0].Notice() || got[0].LostFrom != at.Since+1 || got[0].Seq < gone || got[1].Seq != next {
		t.Errorf("got %+v and %+v, want a notice and %d", got[0], got[1], next)
	}
}

// What is damaged lies in the middle: the message that the subscriber had last is
// still stored.
func TestDamageOfATopicIsTold(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]string{
		"its topic is known":     `{"ranges":[[%[1]d,%[1]d]],"messages":[{"seq":%[1]d,"subject":"rccs.topic.a"}]}`,
		"its topic is not known": `{"ranges":[[%[1]d,%[1]d]],"unknown":[[%[1]d,%[1]d]]}`,
		"it was another's":       `{"ranges":[[%[1]d,%[1]d]],"messages":[{"seq":%[1]d,"subject":"rccs.topic.b"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			had, gone, next := p.publish(t, "a", 0), p.publish(t, "a", 1), p.publish(t, "a", 2)
			stream, err := p.js.Stream(t.Context(), subjects.StreamTopic)
			testkit.Check(t, err)
			testkit.Check(t, stream.DeleteMsg(t.Context(), gone))
			_, err = p.js.Publish(t.Context(), layout.Damaged(subjects.StreamTopic), fmt.Appendf(nil, record, gone))
			testkit.Check(t, err)
			p = p.restart(t)
			f, _ := p.begin(t, topic.Since{FromSeq: true, Seq: had})
			if name == "it was another's" {
				if got := f.take(t, 1, 1)[0]; got.Notice() || got.Seq != next {
					t.Errorf("got %+v", got)
				}
				return
			}
			got := f.take(t, 2, 2)
			if got[0].LostFrom != gone || got[0].Seq != gone || got[0].Reason != "damaged" || got[1].Seq != next {
				t.Errorf("got %+v and %+v", got[0], got[1])
			}
		})
	}
}

// What is damaged in the files while the server runs is told as damage, and what an
// operator removes with JetStream's own means is not.
func TestDamageOfATopicWhileTheServerRunsIsToldAsDamage(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	had := map[string]uint64{"a": p.publish(t, "a", 0), "b": p.publish(t, "b", 0)}
	gone := map[string]uint64{"a": p.publish(t, "a", 7654321), "b": p.publish(t, "b", 1)}
	next := map[string]uint64{"a": p.publish(t, "a", 2), "b": p.publish(t, "b", 2)}
	p.forget(t)
	stream, err := p.js.Stream(t.Context(), subjects.StreamTopic)
	testkit.Check(t, err)
	testkit.Check(t, stream.DeleteMsg(t.Context(), gone["b"]))
	p.env.Stop() // and forgets what it has in memory
	p.env.Flip(subjects.StreamTopic, "7654321")
	p.env.Start() // and looks at no block before somebody reads it
	testkit.Eventually(t, "the hub follows again", func() bool { return p.hub.Healthy(time.Second) == nil })
	for name, reason := range map[string]string{"a": "damaged", "b": "purged"} {
		f, _ := p.follow(t, name, topic.Since{FromSeq: true, Seq: had[name]})
		got := f.take(t, 2, 2)
		if got[0].Reason != reason || got[0].Seq < gone[name] || got[1].Seq != next[name] {
			t.Errorf("%s: got %+v and %+v, want %s", name, got[0], got[1], reason)
		}
	}
	p = p.restart(t) // with a hub that has read none of them
	for name, want := range map[string]int{"a": 2, "b": 1} {
		f, _ := p.follow(t, name, topic.Since{FromSeq: true, Seq: had[name]})
		got := f.take(t, want, 2)
		if notice := want == 2; got[0].Notice() != notice || notice && got[0].Reason != "damaged" || got[want-1].Seq != next[name] {
			t.Errorf("%s: a hub that was started later tells %+v", name, got[0])
		}
	}
	var found struct {
		Found []struct {
			Stream     string
			Unreadable bool
		}
	}
	cursors, err := p.js.Stream(t.Context(), layout.StreamCursor)
	testkit.Check(t, err)
	stored, err := cursors.GetLastMsgForSubject(t.Context(), layout.Damaged(subjects.StreamTopic))
	testkit.Check(t, err)
	testkit.Check(t, json.Unmarshal(stored.Data, &found))
	if len(found.Found) != 1 || !found.Found[0].Unreadable || found.Found[0].Stream != subjects.StreamTopic {
		t.Errorf("operators are told %s", stored.Data)
	}
}

// Each of three copies is damaged in another place, the leader's too: a subscriber gets
// all.
func TestWhatOneCopyOfATopicLacksIsReadFromAnother(t *testing.T) {
	t.Parallel()
	servers := natstest.Cluster(t, 3)
	natstest.StreamsOn(t, servers[0].Conn(t), len(servers))
	p := startPlace(t, servers[0])
	had := p.publish(t, "a", 0)
	var want []uint64
	for n := range 4 {
		want = append(want, p.publish(t, "a", 7654320+n))
	}
	f, _ := p.begin(t, topic.Since{FromSeq: true, Seq: had})
	f.take(t, 4, 4)
	p.forget(t)
	natstest.Spoil(t, p.js, servers, subjects.StreamTopic, "7654320", "7654321", "7654322")
	testkit.Eventually(t, "the hub follows again", func() bool { return p.hub.Healthy(time.Second) == nil })
	f, _ = p.begin(t, topic.Since{FromSeq: true, Seq: had})
	for i, m := range f.take(t, 4, 4) {
		if m.Notice() || m.Seq != want[i] {
			t.Errorf("got %+v, want %d", m, want[i])
		}
	}
}
