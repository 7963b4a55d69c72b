package inbox_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
)

// events are the bodies of the stored events of a kind.
func (s *system) events(kind string) []map[string]any {
	s.t.Helper()
	stream := must(s.js.Stream(s.t.Context(), subjects.StreamEvent))
	var all []map[string]any
	for seq := uint64(1); seq <= must(stream.Info(s.t.Context())).State.LastSeq; seq++ {
		m := must(stream.GetMsg(s.t.Context(), seq))
		var body map[string]any
		if err := json.Unmarshal(m.Data, &body); err != nil {
			s.t.Fatal(err)
		}
		if body["kind"] == kind {
			body["event"] = m.Subject
			all = append(all, body)
		}
	}
	return all
}

// A device that is connected and acknowledges nothing has a full inbox like one
// that is away.
func TestFullInboxOfAConnectedDeviceIsTold(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *inbox.Options) { o.MaxUnacked = 10 })
	k := subjects.Address{User: "alice", Device: "phone"}.Key()
	s.attach(k, 256)
	for range 10 {
		must(s.js.Publish(t.Context(), subjects.Inbox(k, subjects.Normal), []byte("1")))
	}
	if got := s.events(subjects.EventFull); len(got) != 0 {
		t.Errorf("told %v of an inbox that is not over its bound", got)
	}
	must(s.js.Publish(t.Context(), subjects.Inbox(k, subjects.Normal), []byte("1")))
	s.eventually("the event is stored", func() bool { return len(s.events(subjects.EventFull)) == 1 })
	if got := s.events(subjects.EventFull)[0]; got["unacked"] != 11.0 || got["device"] != "phone" {
		t.Errorf("told %v", got)
	}
}

func TestNamesThatAreNotEscapedAreTold(t *testing.T) {
	t.Parallel()
	reasons := make(chan string, 1)
	s := newSystem(t, func(o *inbox.Options) { o.Undeliverable = func(reason string) { reasons <- reason } })
	ack := must(s.js.Publish(t.Context(), "rccs.inbox.user:42.phone.normal", []byte("{}")))
	s.eventually("the event is stored", func() bool { return len(s.events(subjects.EventUndeliverable)) == 1 })
	got := s.events(subjects.EventUndeliverable)[0]
	if got["event"] != "rccs.event.%.phone.undeliverable" || got["reason"] != "badSubject" || got["seq"] != float64(ack.Sequence) ||
		got["subject"] != "rccs.inbox.user:42.phone.normal" {
		t.Errorf("told %v", got)
	}
	if reason := <-reasons; reason != "badSubject" {
		t.Errorf("counted as %s", reason)
	}
}

// A service that published while no edge ran is told when one starts.
func TestWhatWasPublishedToNobodyWhileNoEdgeRanIsTold(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.put(phone, subjects.Normal, 0, 1) // so that there is a mark to count from
	s.caughtUp()
	s.stop()
	must(s.js.Publish(t.Context(), "rccs.inbox.alice.a:b.low", []byte("{}")))
	must(s.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.Inbox(phone, subjects.High), Header: nats.Header{subjects.HeaderAck: {"yes"}}}))
	s.start(nil)
	s.eventually("both events are stored", func() bool {
		return len(s.events(subjects.EventUndeliverable)) == 1 && len(s.events(subjects.EventBadHeader)) == 1
	})
}

// What cannot be used of a service's headers is told, once a second for a
// subject, and the message is delivered without it.
func TestABadHeaderIsToldAndTheMessageDelivered(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	d := s.attach(phone, 100)
	const n = 20
	for range n {
		s.publish(phone, nats.Header{subjects.HeaderID: {"m1"}, subjects.HeaderTTL: {"soon"}, subjects.HeaderTimestamp: {"now"}})
	}
	got := d.receive(n)
	first, last := got[0].Stored, got[n-1].Stored
	seconds := int(last/int64(time.Second)-first/int64(time.Second)) + 1
	s.eventually("the events are stored", func() bool { return len(s.events(subjects.EventBadHeader)) > 0 })
	s.put(phone, subjects.Normal, 1, 1)
	ack(d, d.receive(1))
	told := s.events(subjects.EventBadHeader)
	if len(told) > seconds {
		t.Errorf("%d events of %d seconds", len(told), seconds)
	}
	if e := told[0]; e["event"] != "rccs.event.alice.phone.badHeader" || e["header"] != subjects.HeaderTimestamp || e["id"] != "m1" ||
		e["subject"] != subjects.Inbox(phone, got[0].Lane) || e["seq"] != float64(got[0].Seq) {
		t.Errorf("told %v", e)
	}
}
