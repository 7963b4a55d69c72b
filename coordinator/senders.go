package coordinator

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
)

// Senders that are no known service. All devices are one sender. A message of an
// unknown service keeps its place among all others, because those may be of the
// same service.
const (
	unknown = ""
	devices = "devices"
)

// senders knows which service sent each message on its way to the route stream.
// NATS tells that to subscribers as a message is published, but JetStream does not
// store it. It is used for taking turns only. For messages that were stored before
// the start, [senderLog] may know the sender. If neither knows it, the sender is
// unknown.
//
// Messages of which the same is stored share a key, and may be of several services.
// It does not matter which is whose: the one that is read first counts for the
// service that has the fewest on their way. So a service that repeats the messages
// of another does not delay them.
type senders struct {
	seed maphash.Seed
	most int // how many messages are remembered until they are read

	mu    sync.Mutex
	known map[uint64][]onWay // by key: the senders of what was heard and not read yet, each once
	on    map[string]int     // by sender: how many of these
	order []heard            // oldest first; some of them may have been read
	read  time.Time          // when what was read last was stored
	news  chan struct{}      // closed with the next that is heard; nil: nobody waits

	expected map[uint64][]*routed           // by key: what was read, and is heard late
	expects  []expectation                  // oldest first; some of them may have been heard
	late     func(m *routed, sender string) // is told who sent what was expected

	resume time.Time // of the reader: when it waits again
}

// onWay is how many messages of one key are on their way from a sender.
type onWay struct {
	sender string
	n      int
}

// expectation is a message that was read before it was heard.
type expectation struct {
	key uint64
	m   *routed
	at  time.Time
}

// heard is a message that was heard.
type heard struct {
	key    uint64
	sender string
	at     time.Time
}

const (
	// maxSenders is how many messages a router remembers until it reads them.
	maxSenders = 1 << 20
	// heardBytes bounds what was published and is not looked at yet. With each
	// message NATS sends the credential of its service, some 5 KB.
	heardBytes = 512 << 20
	// maxExpected is how many messages a router remembers until it hears them.
	maxExpected = 64 << 10
	// refusedAfter bounds the wait for a message that was heard. If another was stored
	// this much later, the first one does not come any more: the store has refused it.
	refusedAfter = time.Minute
)

// hear records the sender of a message as it is published.
func (s *senders) hear(m *nats.Msg) {
	sender := cmp.Or(headers.Requester(m), "the tenant's own users")
	key := s.key(m.Subject, m.Header, m.Data)
	if m := s.wasExpected(key); m != nil {
		s.late(m, sender)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known, s.on = make(map[uint64][]onWay), make(map[string]int)
	}
	s.forgetLocked()
	if n := s.whoseLocked(key, sender); n >= 0 {
		s.known[key][n].n++
	} else {
		s.known[key] = append(s.known[key], onWay{sender, 1})
	}
	s.on[sender]++
	s.order = append(s.order, heard{key, sender, time.Now()})
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// whoseLocked returns where a sender stands among those of a key; -1: nowhere.
func (s *senders) whoseLocked(key uint64, sender string) int {
	return slices.IndexFunc(s.known[key], func(w onWay) bool { return w.sender == sender })
}

// forgetLocked forgets the oldest, if it was read, refused, or is one too many.
func (s *senders) forgetLocked() {
	for len(s.order) > 0 {
		oldest := s.order[0]
		unread := s.whoseLocked(oldest.key, oldest.sender) >= 0
		if unread && len(s.order) < s.most && s.read.Sub(oldest.at) < refusedAfter {
			return
		}
		if unread {
			s.removeLocked(oldest.key, oldest.sender)
		}
		s.order = s.order[1:]
	}
}

// removeLocked removes a message of a sender from those that are remembered.
func (s *senders) removeLocked(key uint64, sender string) {
	all, n := s.known[key], s.whoseLocked(key, sender)
	if all[n].n--; all[n].n == 0 {
		if all = slices.Delete(all, n, n+1); len(all) == 0 {
			delete(s.known, key)
		} else {
			s.known[key] = all
		}
	}
	if s.on[sender]--; s.on[sender] == 0 {
		delete(s.on, sender)
	}
}

// expect is like of, for a message that was read before it was heard. If it is heard
// later, late is told.
func (s *senders) expect(m *routed, body []byte) string {
	key := s.key(m.subject, m.header, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sender := s.ofLocked(key); sender != unknown {
		return sender
	}
	if s.expected == nil {
		s.expected = make(map[uint64][]*routed)
	}
	now := time.Now()
	for len(s.expects) > 0 && (len(s.expects) >= maxExpected || now.Sub(s.expects[0].at) > refusedAfter) {
		s.unexpectLocked(s.expects[0].key, s.expects[0].m)
		s.expects = s.expects[1:]
	}
	s.expected[key] = append(s.expected[key], m)
	s.expects = append(s.expects, expectation{key, m, now})
	return unknown
}

// wasExpected returns the oldest message of a key that was read before it was heard;
// nil: there is none.
func (s *senders) wasExpected(key uint64) *routed {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.expected[key]
	if len(all) == 0 {
		return nil
	}
	m := all[0]
	s.unexpectLocked(key, m)
	return m
}

func (s *senders) unexpectLocked(key uint64, m *routed) {
	all := s.expected[key]
	switch n := slices.Index(all, m); {
	case n < 0:
	case len(all) == 1:
		delete(s.expected, key)
	case n == 0: // as almost always
		all[0] = nil
		s.expected[key] = all[1:]
	default:
		s.expected[key] = slices.Delete(all, n, n+1)
	}
}

// hearTimeout is how long the reader waits until a message that it has read is heard
// as well. It is heard as it is published, but on another connection. After a wait in
// vain there is none for hearPause.
const (
	hearTimeout = 50 * time.Millisecond
	hearPause   = time.Second
)

// await is like of, for a message that was stored just now: it waits until the message
// is heard. Only the reader may call it.
func (s *senders) await(m *routed, body []byte) string {
	deadline := time.Now().Add(hearTimeout)
	for {
		s.mu.Lock()
		if s.news == nil {
			s.news = make(chan struct{})
		}
		news := s.news
		s.mu.Unlock()
		sender, wait := s.of(m, body), time.Until(deadline)
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

// of returns the sender of a message that the reader has read, or unknown. Call it once
// for each message.
func (s *senders) of(m *routed, body []byte) string {
	key := s.key(m.subject, m.header, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = m.stored
	return s.ofLocked(key)
}

func (s *senders) ofLocked(key uint64) string {
	all := s.known[key]
	if len(all) == 0 {
		return unknown
	}
	sender := slices.MinFunc(all, func(a, b onWay) int { return cmp.Compare(s.on[a.sender], s.on[b.sender]) }).sender
	s.removeLocked(key, sender)
	return sender
}

// key identifies a message by all that is stored of it, except NATS's own headers other
// than the id.
func (s *senders) key(subject string, h nats.Header, body []byte) uint64 {
	var hash maphash.Hash
	hash.SetSeed(s.seed)
	add := func(text string) {
		_, _ = hash.WriteString(text)
		_ = hash.WriteByte(0) // is in no header and no subject
	}
	add(subject)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !headers.OfNATS(name) || name == nats.MsgIdHdr {
			add(name)
			for _, value := range h[name] {
				add(value)
			}
		}
	}
	_, _ = hash.Write(body)
	return hash.Sum64()
}
