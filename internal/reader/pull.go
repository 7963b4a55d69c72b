package reader

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// pullExpires is how long a pull request waits at the server.
const pullExpires = 30 * time.Second

// pull reads from one consumer until it is stopped. Its callback runs on the
// subscription's goroutine.
type pull struct {
	r     *Reader
	name  string
	began time.Time
	sub   *nats.Subscription
	base  string // reply subjects are base + request number

	mu      sync.Mutex // held while an entry is handed out, so stop is a barrier
	stopped bool
	next    uint64 // the consumer sequence that must come next
	request int    // number of the newest pull request
	left    int    // messages that open requests may still bring
	large   bool   // the next message is larger than a request may bring
	body    []byte
	one     []byte // asks for one message of any size
}

func (p *pull) start() error {
	p.base = p.r.opts.Conn.NewInbox() + "."
	p.next = 1
	ask := map[string]any{
		"batch": p.r.opts.Batch, "max_bytes": p.r.opts.MaxBytes,
		"expires": pullExpires.Nanoseconds(), "idle_heartbeat": p.r.opts.Heartbeat.Nanoseconds(),
	}
	p.body, _ = json.Marshal(ask)
	ask["batch"] = 1
	delete(ask, "max_bytes")
	p.one, _ = json.Marshal(ask)
	sub, err := p.r.opts.Conn.Subscribe(p.base+"*", p.receive)
	if err != nil {
		return fmt.Errorf("reader: subscribe: %w", err)
	}
	p.sub = sub
	// What waits here is bounded by the pull requests, not by nats.go, which
	// would drop what is past its limit.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("reader: subscribe: %w", err)
	}
	p.r.beats.Store(int64(time.Since(p.r.began)))
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.askLocked()
}

func (p *pull) askLocked() error {
	p.request++
	body, batch := p.body, p.r.opts.Batch
	if p.large {
		p.large = false
		body, batch = p.one, 1
	}
	p.left += batch
	subject := "$JS.API.CONSUMER.MSG.NEXT." + p.r.opts.Stream + "." + p.name
	if err := p.r.opts.Conn.PublishRequest(subject, p.base+strconv.Itoa(p.request), body); err != nil {
		return fmt.Errorf("reader: pull: %w", err)
	}
	return nil
}

// heard is for how long the consumer has given signs of life since it was made.
func (p *pull) heard() time.Duration {
	return time.Duration(p.r.beats.Load()) - p.began.Sub(p.r.began)
}

// stop returns when no entry is being handed out and none will be any more.
func (p *pull) stop() {
	p.mu.Lock()
	p.stopped = true
	p.drainedLocked()
	p.mu.Unlock()
	_ = p.sub.Unsubscribe()
}

func (p *pull) receive(m *nats.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.receiveLocked(m)
	if n, _, err := m.Sub.Pending(); n <= 1 || err != nil { // this one counts
		p.drainedLocked()
	}
}

func (p *pull) receiveLocked(m *nats.Msg) {
	p.r.beats.Store(int64(time.Since(p.r.began)))
	// Stored messages come on their own subject, whatever headers their
	// publisher gave them; only what the server says comes on the reply's.
	if strings.HasPrefix(m.Subject, p.base) {
		p.statusLocked(m)
		return
	}
	meta, ok := parseAckReply(m.Reply)
	if !ok {
		return // not from a consumer: a stray publish to our inbox
	}
	if meta.consumer != p.next {
		p.failLocked(fmt.Sprintf("hole in the consumer's sequence: %d came for %d", meta.consumer, p.next))
		return
	}
	p.next++
	p.r.left.Store(meta.pending)
	p.handOutLocked(m, meta)
	if meta.pending == 0 {
		p.r.ended(meta.stream)
	}
	p.left--
	p.refillLocked()
}

func (p *pull) drainedLocked() {
	if p.r.opts.Drained != nil {
		p.r.opts.Drained()
	}
}

// refillLocked asks again when half is used, so that the server never waits
// for us, and what may be under way stays bounded.
func (p *pull) refillLocked() {
	if p.left > p.r.opts.Batch/2 {
		return
	}
	if err := p.askLocked(); err != nil {
		p.failLocked(err.Error())
	}
}

func (p *pull) handOutLocked(m *nats.Msg, meta ackReply) {
	if meta.stream <= p.r.last.Load() {
		return // handed out by the consumer before this one
	}
	p.r.opts.Shard.PlainHeader(m.Subject, m.Header)
	p.r.opts.Handle(Entry{Subject: p.r.opts.Shard.Plain(m.Subject), Seq: meta.stream, Time: meta.time, Header: m.Header, Data: m.Data})
	p.r.last.Store(meta.stream)
}

// statusLocked handles what the server says instead of a message.
func (p *pull) statusLocked(m *nats.Msg) {
	status, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch {
	case status == "100": // idle heartbeat
		if last := m.Header.Get("Nats-Last-Consumer"); last != "" && last != strconv.FormatUint(p.next-1, 10) {
			p.failLocked("the heartbeat says that messages were missed")
			return
		}
		p.r.left.Store(0)
		p.r.idle()
	case status == "408" || status == "404" || strings.Contains(text, "MaxBytes") || strings.Contains(text, "Batch Completed"):
		// One request ended; requests end in order, so with the newest all have.
		unused, _ := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		p.left -= unused
		p.large = strings.Contains(text, "MaxBytes") && unused == p.r.opts.Batch // it brought none
		if strings.TrimPrefix(m.Subject, p.base) == strconv.Itoa(p.request) {
			p.left = 0
		}
		p.refillLocked()
	default: // 409 consumer deleted, leadership change, server shutdown; 503
		p.failLocked(status + " " + text)
	}
}

func (p *pull) failLocked(reason string) {
	p.stopped = true
	p.drainedLocked()
	p.r.replace(reason)
}

// ackReply is what the reply subject of a consumer's message says (ADR-15).
type ackReply struct {
	stream, consumer, pending uint64
	time                      int64
}

// parseAckReply reads $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.
// <consumer seq>.<time>.<pending>, or the form with a domain and an account
// hash after $JS.ACK.
func parseAckReply(reply string) (ackReply, bool) {
	rest, ok := strings.CutPrefix(reply, "$JS.ACK.")
	if !ok {
		return ackReply{}, false
	}
	skip := 3
	if n := strings.Count(rest, "."); n >= 8 {
		skip = 5
	} else if n != 6 {
		return ackReply{}, false
	}
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var fields [4]uint64
	for i := range fields {
		if fields[i], rest, ok = parseNumber(rest); !ok {
			return ackReply{}, false
		}
	}
	return ackReply{stream: fields[0], consumer: fields[1], time: int64(fields[2]), pending: fields[3]}, true //nolint:gosec // a time that NATS has written
}

// parseNumber reads a number below 2^63 up to the next dot or the end, and returns
// what follows. strconv with a search for the dot takes twice the time, for each
// message four times.
func parseNumber(s string) (n uint64, rest string, ok bool) {
	for i := range len(s) {
		digit := s[i] - '0'
		switch {
		case s[i] == '.':
			return n, s[i+1:], i > 0
		case digit > 9 || n > (math.MaxInt64-9)/10:
			return 0, "", false
		}
		n = n*10 + uint64(digit)
	}
	return n, "", s != ""
}
