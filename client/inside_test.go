package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/wire"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	if d := backoff(0); d != 0 {
		t.Errorf("first wait %v, want none", d)
	}
	for try, bound := range map[int]time.Duration{1: firstBackoff, 2: 2 * firstBackoff, 5: 16 * firstBackoff, 8: maxBackoff, 1000: maxBackoff} {
		var longest time.Duration
		for range 500 {
			d := backoff(try)
			if d < 0 || d >= bound {
				t.Fatalf("try %d waits %v, bound %v", try, d, bound)
			}
			longest = max(longest, d)
		}
		if longest < bound/2 {
			t.Errorf("try %d never waits longer than %v of %v: no jitter over the full range", try, longest, bound)
		}
	}
	var longest time.Duration
	for range 100 {
		longest = max(longest, pause(&CloseError{Code: wire.CloseOverloaded}, 0))
	}
	if longest == 0 {
		t.Error("the client comes back at once to an edge that is overloaded")
	}
	asked := &CloseError{Code: wire.CloseRateLimited, Err: &wire.Error{Code: wire.RateLimited, RetryAfter: 40 * time.Second}}
	if d := pause(asked, 0); d != 40*time.Second {
		t.Errorf("the edge asked for 40s, the client waits %v", d)
	}
	asked.Err.RetryAfter = 1000 * time.Hour
	if d := pause(asked, 0); d != maxAsked {
		t.Errorf("the client waits %v because it was told so", d)
	}
}

func TestOutboxIsBounded(t *testing.T) {
	t.Parallel()
	b := newOutbox(func() {})
	message := func(i int, size int) *outgoing {
		return &outgoing{id: fmt.Sprint(i), frame: make([]byte, size)}
	}
	for i := range maxOutMessages {
		if err := b.add(t.Context(), message(i, 10)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.add(ctx, message(-1, 10)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a full outbox took a message: %v", err)
	}
	added := make(chan error, 1)
	go func() { added <- b.add(t.Context(), message(-2, 10)) }()
	if frame := b.take(nil); len(frame) == 0 {
		t.Fatal("nothing to write")
	}
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	for frame := b.take(nil); len(frame) > 0; {
		frame = b.take(frame[:0])
	}
	if b.bytes != 0 {
		t.Errorf("an empty outbox counts %d bytes", b.bytes)
	}
	// By bytes: one message of any size is taken, a second waits.
	if err := b.add(t.Context(), message(-3, 2*maxOutBytes)); err != nil {
		t.Fatal(err)
	}
	if room, _ := b.offer(message(-4, 10)); room == nil {
		t.Error("bytes are not counted")
	}
}

func TestTakeFillsFrames(t *testing.T) {
	t.Parallel()
	b := newOutbox(func() {})
	big := &outgoing{id: "big", frame: make([]byte, batchBytes)}
	for _, o := range []*outgoing{{id: "1", frame: []byte(`{"a":1}`)}, {id: "2", frame: []byte(`{"b":2}`)}, big, {id: "3", frame: []byte(`{}`)}} {
		if err := b.add(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(b.take(nil)); got != `[{"a":1},{"b":2}]` {
		t.Errorf("first frame %s", got)
	}
	if got := b.take(nil); len(got) != batchBytes {
		t.Errorf("second frame has %d bytes", len(got))
	}
	if got := string(b.take([]byte("x"))); got != `x{}` {
		t.Errorf("third frame %s", got)
	}
}

func TestReconnectedKeepsOrderAndLimit(t *testing.T) {
	t.Parallel()
	b := newOutbox(func() {})
	var told [4]reply
	for i, size := range []int{1, 5000, 2, 3} {
		o := &outgoing{id: fmt.Sprint(i), frame: make([]byte, size), done: func(r reply) { told[i] = r }}
		for j := range o.frame {
			o.frame[j] = byte('0' + i)
		}
		if err := b.add(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			b.take(nil) // the first three are written, the last is not
		}
	}
	b.answer("0", reply{})
	b.reconnected(4000)
	if r := told[1]; !errors.Is(r.err, wire.MessageTooLarge) {
		t.Errorf("too large for the new edge: %v", r.err)
	}
	if got := string(b.take(nil)); got != "[22,333]" {
		t.Errorf("written again: %s", got)
	}
}

func TestSeenForgetsTheOldest(t *testing.T) {
	t.Parallel()
	s := newSeen(remembered)
	for seq := uint64(1); seq <= remembered+10; seq++ {
		s.add(&wire.Envelope{Seq: seq, ID: fmt.Sprint(seq), FromDeviceID: "a"})
	}
	if s.hasSeq(10) || !s.hasSeq(11) || len(s.seqs) != remembered || len(s.ids) != remembered {
		t.Errorf("remembers %d seqs and %d ids", len(s.seqs), len(s.ids))
	}
	if s.has(&wire.Envelope{Seq: 99999, ID: "20", FromDeviceID: "b"}) {
		t.Error("an id of another sender is taken for the same")
	}
}

// What comes again takes no place from what was handled: an edge sends all again that
// no cursor says was acknowledged, receipts too.
func TestWhatComesAgainHasNothingForgotten(t *testing.T) {
	t.Parallel()
	in := newIncoming(true, 0, func() {}, nil)
	receipt := func(seq uint64) *wire.Envelope { return &wire.Envelope{Type: wire.TypeAck, Seq: seq} }
	for range 3 {
		for seq := uint64(1); seq <= remembered; seq++ {
			in.message(receipt(seq)).Ack()
		}
	}
	if !in.knows(1) || !in.knows(remembered) {
		t.Error("forgotten")
	}
}

func TestFloods(t *testing.T) {
	t.Parallel()
	drops := uint64(0)
	in := newIncoming(true, 0, func() {}, func(n uint64) { drops = n })
	for range maxQueue + 5 {
		in.deliver(t.Context(), &wire.Envelope{Type: "presence"})
	}
	if drops != 5 {
		t.Errorf("%d ephemeral messages dropped, want 5", drops)
	}
	for seq := uint64(1); seq <= 10; seq++ { // the window bounds these
		in.deliver(t.Context(), &wire.Envelope{Type: "note", Seq: seq, ID: fmt.Sprint(seq)})
	}
	got := uint64(0)
	for m := in.pop(); m != nil; m = in.pop() {
		got += m.Seq
	}
	if got != 55 {
		t.Error("a durable message was dropped")
	}

	auto := newIncoming(false, 0, func() {}, func(uint64) { t.Error("dropped") })
	for seq := uint64(1); seq <= maxQueue; seq++ {
		auto.deliver(t.Context(), &wire.Envelope{Type: "note", Seq: seq})
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		auto.deliver(t.Context(), &wire.Envelope{Type: "note", Seq: maxQueue + 1})
	}()
	for seq := uint64(1); seq <= maxQueue+1; {
		if m := auto.pop(); m != nil {
			if m.Seq != seq {
				t.Fatalf("message %d, want %d", m.Seq, seq)
			}
			seq++
			continue
		}
		<-auto.ready
	}
	<-waited
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ws://h:1": "ws://h:1/v1/ws", "ws://h:1/": "ws://h:1/v1/ws", "https://h/x?y=1": "wss://h/x?y=1", "http://h": "ws://h/v1/ws",
	} {
		if got, err := endpoint(text); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestAcknowledgementsGoTogetherAndSoon(t *testing.T) {
	t.Parallel()
	woken := make(chan struct{}, 1)
	in := newIncoming(true, 0, func() { signal(woken) }, func(uint64) {})
	for seq := uint64(1); seq <= 300; seq++ {
		in.deliver(t.Context(), &wire.Envelope{Type: "note", Seq: seq, ID: fmt.Sprint(seq)})
	}
	handle := func() { in.pop().Ack() }
	handle()
	<-woken // though nothing else is handled
	if acks := in.takeAcks(nil); len(acks) != 1 {
		t.Errorf("%d acknowledged, want the first", len(acks))
	}
	for range 3 { // by number
		for range ackBatch {
			if len(in.queue) > 0 {
				handle()
			}
		}
		<-woken
	}
	if acks := in.takeAcks(nil); len(acks) != 299 || acks[298] != 300 {
		t.Errorf("%d acknowledged, want the rest", len(acks))
	}
	in.deliver(t.Context(), &wire.Envelope{Type: "note", Seq: 301, ID: "301"})
	in.clock.Stop()
	handle() // nothing else waits: at once, without the clock
	select {
	case <-woken:
	default:
		t.Error("the acknowledgement of the last message waits")
	}
}

// A connection may end right after an answer, and the next one begin before the
// caller who waited for the answer runs again.
func TestWhatAnAnswerSettlesHoldsForTheVeryNextConnection(t *testing.T) {
	t.Parallel()
	for what, ask := range map[string]func(*Client) error{
		wire.TypeSubscribe: func(c *Client) error { _, err := c.Subscribe(t.Context(), "t", nil); return err },
		wire.TypeStatus:    func(c *Client) error { return c.SetStatus(t.Context(), wire.Busy, nil) },
	} {
		c := &Client{}
		c.out = newOutbox(func() {})
		asked := make(chan error, 1)
		go func() { asked <- ask(c) }()
		var frame []byte
		testkit.Eventually(t, "the question", func() bool {
			frame = c.out.take(frame[:0])
			return len(frame) > 0
		})
		items, err := wire.DecodeFrame(nil, frame)
		if err != nil {
			t.Fatal(err)
		}
		if !c.out.answer(items[0].ID, reply{answer: &wire.Answer{Registered: wire.Registered{Epoch: "a"}, Seq: 9}}) {
			t.Fatalf("nobody waits for the answer to %s", frame)
		}
		c.restatus() // as the next connection does
		c.topics.rejoin()
		again := c.out.take(nil)
		if items, err = wire.DecodeFrame(nil, again); err != nil || items[0].Type != what {
			t.Errorf("the next connection is told %q, %v, want a %s", again, err, what)
		}
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
}
