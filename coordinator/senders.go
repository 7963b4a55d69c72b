package coordinator

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Senders that are no known service. All devices are one sender. A message of an
// unknown service keeps its place among all others, because those may be of the
// same service.
const (
	unknown = ""
	devices = "devices"
)

// senders knows which service has sent the messages on their way to the route
// stream. NATS tells that to those who hear a message as it is published, but
// JetStream does not store it. It is only used for taking turns. A message not
// known here, such as one stored before the start, has an unknown sender.
type senders struct {
	seed maphash.Seed

	mu    sync.Mutex
	known map[uint64]string
	order []uint64 // of known, a ring
	next  int
	news  chan struct{} // closed with the next that is heard; nil: nobody waits

	resume time.Time // of the reader: when it waits again
}

// maxSenders bounds how many messages are remembered until they are read.
const maxSenders = 64 << 10

// heard records the sender of a message as it is published.
func (s *senders) heard(m *nats.Msg) {
	sender := cmp.Or(layout.Requester(m.Reply, m.Header), "the tenant's own users")
	key := s.key(m.Subject, m.Header, m.Data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[uint64]string)
	}
	if len(s.order) < maxSenders {
		s.order = append(s.order, key)
	} else {
		delete(s.known, s.order[s.next])
		s.order[s.next] = key
		s.next = (s.next + 1) % maxSenders
	}
	if other, known := s.known[key]; known && other != sender {
		sender = unknown // two services have sent the same
	}
	s.known[key] = sender
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// How long the reader waits for a message that it has read to be heard: it is
// heard as it is published, but on another connection. After a wait in vain
// nobody waits for hearPause.
const (
	hearWithin = 50 * time.Millisecond
	hearPause  = time.Second
)

// await is of for a message that was stored just now: it waits until that is
// heard. Only the reader may call it.
func (s *senders) await(subject string, h nats.Header, body []byte) string {
	deadline := time.Now().Add(hearWithin)
	for {
		s.mu.Lock()
		if s.news == nil {
			s.news = make(chan struct{})
		}
		news := s.news
		s.mu.Unlock()
		sender, wait := s.of(subject, h, body), time.Until(deadline)
		switch {
		case sender != unknown || time.Now().Before(s.resume):
			return sender
		case wait <= 0:
			s.resume = time.Now().Add(hearPause)
			return unknown
		}
		timer := time.NewTimer(wait)
		select {
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// of returns the sender of a message that the reader has read, or unknown.
func (s *senders) of(subject string, h nats.Header, body []byte) string {
	key := s.key(subject, h, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key]
}

// key identifies a message. Two messages with the same key have the same sender,
// or senders that send the same message.
func (s *senders) key(subject string, h nats.Header, body []byte) uint64 {
	var hash maphash.Hash
	hash.SetSeed(s.seed)
	for _, part := range []string{subject, h.Get(subjects.HeaderID), h.Get(nats.MsgIdHdr)} {
		_, _ = hash.WriteString(part)
		_ = hash.WriteByte(0)
	}
	_, _ = hash.Write(body)
	return hash.Sum64()
}

// lines are waiting messages by sender. Senders take turns.
type lines []*line

// line has the waiting messages of one sender, in the order of storage.
type line struct {
	sender  string
	waiting []*routed
}

// add adds the newest message.
func (l *lines) add(m *routed) {
	if m.sender == unknown && len(*l) > 0 {
		l.merge()
	}
	for _, one := range *l {
		if one.sender == m.sender || one.sender == unknown { // that is the only one then
			one.waiting = append(one.waiting, m)
			return
		}
	}
	*l = append(*l, &line{m.sender, []*routed{m}})
}

// merge makes one line of all lines, in the order of storage.
func (l *lines) merge() {
	all := make([]*routed, 0, l.len())
	for _, one := range *l {
		all = append(all, one.waiting...)
	}
	slices.SortFunc(all, bySeq)
	*l = lines{{unknown, all}}
}

func bySeq(a, b *routed) int { return cmp.Compare(a.seq, b.seq) }

func (l lines) len() (n int) {
	for _, one := range l {
		n += len(one.waiting)
	}
	return n
}

// take takes up to most messages, the same number from each sender. Those of whom
// none was taken come first the next time.
func (l *lines) take(most int) []*routed {
	each := max(most/max(len(*l), 1), 1)
	var some []*routed
	var untouched, rest lines
	for _, one := range *l {
		n := min(each, len(one.waiting), most-len(some))
		some = append(some, one.waiting[:n]...)
		if one.waiting = one.waiting[n:]; n == 0 {
			untouched = append(untouched, one)
		} else if len(one.waiting) > 0 {
			rest = append(rest, one)
		}
	}
	*l = append(untouched, rest...)
	return some
}

// inTurns orders messages by the turns of their senders. senders is how many
// senders can be told apart.
func inTurns(all []*routed) (ordered []*routed, senders int) {
	if slices.ContainsFunc(all, func(m *routed) bool { return m.sender == unknown }) {
		slices.SortFunc(all, bySeq)
		return all, 1
	}
	var l lines
	for _, m := range all {
		l.add(m)
	}
	senders = len(l)
	for len(l) > 1 {
		ordered = append(ordered, l.take(len(l))...)
	}
	if len(l) == 1 {
		ordered = append(ordered, l[0].waiting...)
	}
	return ordered, senders
}
