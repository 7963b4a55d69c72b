package topic_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/topic"
	"github.com/rccs-io/rccs/subjects"
)

// TestEveryMessageOfATopicComesOnceOrIsTold publishes, subscribes, reads, leaves,
// goes on from where it was, restarts the hub, lets retention and limits take
// messages, read by the hub or not, and renews the epoch, at random. Each
// subscriber gets every message behind where it began once and in order, or a
// notice that covers it, and no notice covers a message that is stored.
func TestEveryMessageOfATopicComesOnceOrIsTold(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = flag.Set("rapid.checks", "20")
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{t: t, place: newPlace(t), published: make(map[string][]uint64), removed: make(map[uint64]bool)}
		defer m.close() // of each check: a server is large
		for range 3 {
			m.subs = append(m.subs, &modelSub{topic: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "topic")})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish":   m.publish,
			"subscribe": func(rt *rapid.T) { m.subscribe(rt, m.pick(rt), 0) },
			"ahead":     func(rt *rapid.T) { m.subscribe(rt, m.pick(rt), rapid.Uint64Range(1, 1000).Draw(rt, "ahead")) },
			"read":      func(rt *rapid.T) { m.read(rt, m.pick(rt), rapid.IntRange(1, 200).Draw(rt, "messages")) },
			"leave":     func(rt *rapid.T) { m.leave(m.pick(rt)) },
			"retention": m.retention,
			"limit":     m.limit,
			"restart":   func(*rapid.T) { m.restart() },
			"restore":   m.restore,
		})
		m.check(rt)
	})
}

// model is a stream of topics, and what was done to it.
type model struct {
	*place
	t         *testing.T
	subs      []*modelSub
	published map[string][]uint64 // by topic
	removed   map[uint64]bool
	last      uint64
	n         int
	// uncertain is the last sequence that was removed perhaps before the hub that
	// runs had read it: of what was lost up to it it is not known which topic it
	// was of.
	uncertain uint64
}

// modelSub is a subscriber and what it was sent and told.
type modelSub struct {
	topic string
	f     *follower // nil while it is away
	epoch string
	since uint64 // of the last message, or of the answer
	upTo  uint64 // all up to it came, was told or is not wanted
}

func (m *model) pick(rt *rapid.T) *modelSub { return rapid.SampledFrom(m.subs).Draw(rt, "subscriber") }

func (m *model) publish(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "topic")
	for range rapid.SampledFrom([]int{1, 2, 3, 300}).Draw(rt, "messages") { // a queue holds 256
		m.n++
		m.last = m.place.publish(m.t, name, m.n)
		m.published[name] = append(m.published[name], m.last)
	}
}

// subscribe goes on from where the subscriber was, or from a sequence that was
// not given out.
func (m *model) subscribe(rt *rapid.T, s *modelSub, ahead uint64) {
	m.leave(s)
	since := topic.Since{}
	if s.since != 0 {
		since = topic.Since{FromSeq: true, Seq: s.since, Epoch: s.epoch}
	}
	if ahead > 0 {
		since = topic.Since{FromSeq: true, Seq: max(m.last, layout.FirstTopicSeq-1) + ahead}
	}
	f := &follower{wake: make(chan struct{}, 1)}
	sub, at, err := m.hub.Subscribe(m.t.Context(), "test", s.topic, since, func(*topic.Subscription) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		rt.Fatal(err)
	}
	f.sub, s.f = sub, f
	if want := ahead > 0 || s.since != 0 && at.Epoch != s.epoch; at.Reset != want {
		rt.Fatalf("since %+v begins %+v, reset: want %t", since, at, want)
	}
	switch {
	case at.Reset:
		s.since, s.upTo = 0, 0
		got := f.take(m.t, 1, 1)[0]
		if !got.Reset || got.Reason != "reset" || got.Seq != m.beforeFirst(s.topic) {
			rt.Fatalf("a reset is told as %+v, want %d", got, m.beforeFirst(s.topic))
		}
		s.upTo, s.since = got.Seq, got.Seq // all that is stored comes
		if got.Seq == 0 {
			s.upTo, s.since = m.last, m.last // nothing is: what comes from now on
		}
	case s.since == 0: // what comes from now on
		s.since, s.upTo = at.Last, m.last
	}
	s.epoch = at.Epoch
}

// beforeFirst is one below the first message stored of a topic, 0 without one.
func (m *model) beforeFirst(name string) uint64 {
	for _, seq := range m.published[name] {
		if !m.removed[seq] {
			return seq - 1
		}
	}
	return 0
}

func (m *model) leave(s *modelSub) {
	if s.f != nil {
		s.f.sub.Close()
		s.f = nil
	}
}

// read takes what there is.
func (m *model) read(rt *rapid.T, s *modelSub, n int) {
	if s.f == nil {
		return
	}
	got, _ := s.f.sub.Next(nil, n, 1<<20)
	for _, one := range got {
		m.got(rt, s, one)
	}
}

// got accounts for what a subscriber was sent.
func (m *model) got(rt *rapid.T, s *modelSub, one *topic.Message) {
	from, upTo := s.upTo+1, one.Seq
	if one.LostFrom != 0 {
		if one.LostFrom > one.Seq {
			rt.Fatalf("told from %d to %d", one.LostFrom, one.Seq)
		}
		from = max(from, one.LostFrom)
		lost := 0
		for _, seq := range m.published[s.topic] {
			if seq < one.LostFrom || seq > upTo {
				continue
			}
			if lost++; !m.removed[seq] {
				rt.Fatalf("%d is told lost, and stored", seq)
			}
		}
		if lost == 0 && one.LostFrom > m.uncertain {
			rt.Fatalf("a notice from %d to %d of %s, where nothing was lost", one.LostFrom, one.Seq, s.topic)
		}
		m.none(rt, s, s.upTo+1, from-1)
		s.upTo = max(s.upTo, upTo)
		if rapid.Bool().Draw(rt, "go on from the end of the gap") {
			s.since = s.upTo
		}
		return
	}
	if one.Seq <= s.upTo {
		rt.Fatalf("%d came again: all up to %d had come", one.Seq, s.upTo)
	}
	m.none(rt, s, from, upTo-1)
	s.upTo, s.since = upTo, upTo
}

// none fails if the topic has messages in a range that was passed over.
func (m *model) none(rt *rapid.T, s *modelSub, from, to uint64) {
	for _, seq := range m.published[s.topic] {
		if seq >= from && seq <= to {
			rt.Fatalf("%d of %s neither came nor was told of (removed: %t) by a subscriber %+v that got up to %d", seq, s.topic, m.removed[seq], s, to)
		}
	}
}

// retention takes the oldest messages of the stream, whether the hub has read
// them or not.
func (m *model) retention(rt *rapid.T) {
	if m.last == 0 {
		return
	}
	m.settle(rt)
	first := rapid.Uint64Range(layout.FirstTopicSeq, m.last+1).Draw(rt, "first")
	m.purge(m.t, first)
	for _, all := range m.published {
		for _, seq := range all {
			m.removed[seq] = m.removed[seq] || seq < first
		}
	}
}

// limit takes the oldest messages of one topic.
func (m *model) limit(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "topic")
	keep := rapid.IntRange(1, 5).Draw(rt, "keep")
	m.settle(rt)
	stream, err := m.js.Stream(m.t.Context(), subjects.StreamTopic)
	if err != nil {
		rt.Fatal(err)
	}
	subject, _ := subjects.Topic(name)
	if err := stream.Purge(m.t.Context(), jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(uint64(keep))); err != nil {
		rt.Fatal(err)
	}
	for _, seq := range slices.Backward(m.published[name]) {
		if m.removed[seq] {
			continue
		}
		if keep--; keep < 0 {
			m.removed[seq] = true
		}
	}
}

func (m *model) restart() {
	for _, s := range m.subs {
		m.leave(s)
	}
	m.place = m.place.restart(m.t)
	m.uncertain = m.last
}

// settle has the hub read all that is stored, or not.
func (m *model) settle(rt *rapid.T) {
	if !rapid.Bool().Draw(rt, "read before") {
		m.uncertain = m.last
		return
	}
	f, _ := m.follow(m.t, "probe", topic.Since{})
	defer f.sub.Close()
	m.last = m.place.publish(m.t, "probe", 0)
	f.take(m.t, 1, 1)
}

// restore renews the epoch, as a restore does. A hub has yet to hear of it.
func (m *model) restore(rt *rapid.T) {
	for _, s := range m.subs {
		m.leave(s)
	}
	if err := epoch.Renew(m.t.Context(), m.js, subjects.StreamTopic); err != nil {
		rt.Fatal(err)
	}
}

// check has all subscribers read to the end.
func (m *model) check(rt *rapid.T) {
	for _, s := range m.subs {
		if s.f == nil {
			m.subscribe(rt, s, 0)
		}
	}
	for _, name := range []string{"a", "b"} {
		m.n++
		m.last = m.place.publish(m.t, name, m.n)
		m.published[name] = append(m.published[name], m.last)
	}
	late := time.After(waitTimeout)
	for _, s := range m.subs {
		all := m.published[s.topic]
		for s.upTo < all[len(all)-1] {
			m.read(rt, s, 1000)
			if s.upTo >= all[len(all)-1] {
				break
			}
			select {
			case <-s.f.wake:
			case <-late:
				rt.Fatal(fmt.Sprintf("of %s all up to %d came or was told of, and %d is stored", s.topic, s.upTo, all[len(all)-1]))
			}
		}
	}
}

func (m *model) close() {
	for _, s := range m.subs {
		m.leave(s)
	}
	if err := m.hub.Stop(m.t.Context()); err != nil {
		m.t.Error(err)
	}
	m.env.Stop()
}
