package topic_test

import (
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// A subscriber wants what was published since a time. The copy that is asked where that
// begins has nothing of it yet.
func TestWhatWasPublishedSinceATimeComesThoughACopyLags(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env.Leaderless(subjects.StreamTopic, 0, 0) // which then says that it has three copies
	p = startPlace(t, p.env)
	since := time.Now().Add(-time.Minute)
	f, _ := p.begin(t, topic.Since{})
	first := p.publish(t, "a", 0)
	p.publish(t, "a", 1)
	f.take(t, 2, 2) // the hub has read both
	defer p.env.Lag(subjects.StreamTopic)()
	late, _ := p.begin(t, topic.Since{Time: since})
	last := p.publish(t, "a", 2)
	if got := late.take(t, 1, 1); got[0].Seq != first {
		t.Errorf("got %d first, want %d; published last was %d", got[0].Seq, first, last)
	}
}
