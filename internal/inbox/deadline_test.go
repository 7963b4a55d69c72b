package inbox_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// askWithin stores a message with a time to live, of which a service wants to hear
// the outcome.
func (s *system) askWithin(k subjects.Key, id string, ttl time.Duration) {
	s.t.Helper()
	must(s.js.PublishMsg(s.t.Context(), &nats.Msg{Subject: subjects.Inbox(k, subjects.Normal), Data: []byte("1"), Header: nats.Header{
		subjects.HeaderID: {id}, subjects.HeaderAck: {"true"}, subjects.HeaderTTL: {strconv.FormatInt(ttl.Milliseconds(), 10)},
	}}))
}

// deadlines are the ids of the messages whose deadlines are stored.
func (s *system) deadlines() (ids []string) {
	s.t.Helper()
	stream := must(s.js.Stream(s.t.Context(), layout.StreamDeadline))
	for seq := range must(stream.Info(s.t.Context())).State.LastSeq {
		msg, err := stream.GetMsg(s.t.Context(), seq+1)
		if err != nil {
			continue // removed
		}
		var d inbox.Deadline
		must(0, json.Unmarshal(msg.Data, &d))
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// A hub that is killed right after a message was stored may not have stored its
// deadline. The next one does, whether the device is away or comes at once.
func TestADeadlineThatAKilledHubDidNotStoreIsStored(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stop()
	s.askWithin(phone, "away", time.Hour)
	s.askWithin(phone, "over", time.Millisecond)
	s.askWithin(desk, "here", time.Hour)
	s.start(nil)
	s.attach(desk, 100)
	want := []string{"away", "here", "over"}
	s.eventually("the deadlines are stored", func() bool { return slices.Equal(s.deadlines(), want) })
}

// Deadlines that damage took are made anew from the messages that wait, however
// old those are, and no others are.
func TestDeadlinesThatDamageTookAreMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.askWithin(phone, "waits", time.Hour)
	s.askWithin(desk, "acknowledged", time.Hour)
	d := s.attach(desk, 100)
	ack(d, d.receive(1))
	want := []string{"acknowledged", "waits"}
	s.eventually("the deadlines are stored", func() bool { return slices.Equal(s.deadlines(), want) })
	s.stop()
	deadlines := must(s.js.Stream(t.Context(), layout.StreamDeadline))
	// The window of the messages' ids is over.
	if err := s.js.DeleteStream(t.Context(), layout.StreamDeadline); err != nil {
		t.Fatal(err)
	}
	must(s.js.CreateStream(t.Context(), deadlines.CachedInfo().Config))
	must(s.js.Publish(t.Context(), layout.Counted, inbox.NothingCounted()))
	s.start(nil)
	s.eventually("the deadline is stored", func() bool { return slices.Equal(s.deadlines(), []string{"waits"}) })
	s.none(s.attach(desk, 100))
}
