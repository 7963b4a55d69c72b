package inbox

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Teller tells services, by events, what is wrong with messages that they
// published. It never blocks. Any number of processes may report the same
// message: the store keeps one event.
type Teller struct {
	pub     *Publisher
	log     *slog.Logger
	counted func(reason string)

	mu   sync.Mutex
	told map[string]int64 // by subject: the second in which a bad header was told last
}

// NewTeller returns a Teller that stores events with pub. counted, if not nil, is
// called with the reason of each message that reaches nobody.
func NewTeller(pub *Publisher, log *slog.Logger, counted func(reason string)) *Teller {
	return &Teller{pub: pub, log: log, counted: counted, told: make(map[string]int64)}
}

// Unreachable tells of a message that reaches nobody.
func (t *Teller) Unreachable(u *Unreachable) {
	msg, err := u.Event(t.pub.Proof)
	if err != nil {
		t.log.Error("event not encoded", "kind", subjects.EventUndeliverable, "subject", u.Subject, "seq", u.Seq, "err", err)
		return
	}
	go t.pub.Publish(msg, func(r Receipt, err error) {
		switch {
		case err != nil:
			t.log.Warn("event not stored", "kind", subjects.EventUndeliverable, "subject", u.Subject, "seq", u.Seq, "err", err)
		case !r.Duplicate && t.counted != nil:
			t.counted(u.Reason)
		}
	})
}

// maxTold bounds how many subjects told remembers.
const maxTold = 4096

// BadHeader tells of a header that cannot be used, at most once a second for each
// subject.
func (t *Teller) BadHeader(b *BadHeader) {
	if !t.first(b.Subject, b.At/int64(time.Second)) {
		return
	}
	msg, err := b.Event(t.pub.Proof)
	if err != nil {
		t.log.Error("event not encoded", "kind", subjects.EventBadHeader, "subject", b.Subject, "err", err)
		return
	}
	go t.pub.Publish(msg, func(_ Receipt, err error) {
		if err != nil {
			t.log.Warn("event not stored", "kind", subjects.EventBadHeader, "subject", b.Subject, "seq", b.Seq, "err", err)
		}
	})
}

// first reports whether no bad header of a subject was told in this second.
func (t *Teller) first(subject string, second int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told[subject] == second {
		return false
	}
	if len(t.told) >= maxTold {
		clear(t.told)
	}
	t.told[strings.Clone(subject)] = second
	return true
}

// Inbox checks a message of an inbox. nobody: its subject names no device.
func (t *Teller) Inbox(m *envelope.Message, nobody bool) {
	header := m.BadHeader()
	if !nobody && (header == "" || m.Authentic) { // RCCS itself wrote it
		return
	}
	subject := subjects.Inbox(m.Key, m.Lane)
	user, device, _ := strings.Cut(string(m.Key), ".")
	if nobody {
		t.Unreachable(&Unreachable{
			Stream: layout.StreamInbox, Subject: subject, Seq: m.Seq, Header: m.Header, Reason: BadSubject, User: user, Device: device,
		})
		return
	}
	t.BadHeader(&BadHeader{Subject: subject, Seq: m.Seq, At: m.Stored, ID: envelope.ID(m.Header), Header: header, User: user, Device: device})
}

// Passing checks a message that reaches a device without being stored: a signal
// or a request.
func (t *Teller) Passing(k subjects.Key, subject string, h nats.Header) {
	header := envelope.BadHeader(h)
	if header == "" {
		return
	}
	user, device, _ := strings.Cut(string(k), ".")
	t.BadHeader(&BadHeader{Subject: subject, At: time.Now().UnixNano(), ID: envelope.ID(h), Header: header, User: user, Device: device})
}

// Topic checks a message of the stream of topics.
func (t *Teller) Topic(subject string, seq uint64, at int64, h nats.Header) {
	if _, ok := subjects.ParseTopic(subject); !ok {
		t.Unreachable(&Unreachable{Stream: subjects.StreamTopic, Subject: subject, Seq: seq, Header: h, Reason: BadSubject})
	} else if header := envelope.BadHeader(h); header != "" {
		t.BadHeader(&BadHeader{Subject: subject, Seq: seq, At: at, ID: envelope.ID(h), Header: header})
	}
}
