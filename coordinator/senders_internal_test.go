package coordinator

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rccs-io/rccs/internal/layout"
)

// Whoever takes turns with whom, what one service has sent stays in order, and so
// does all where it is not known who has sent a message. Nothing is lost.
func TestTurnsKeepWhatOneServiceSentInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		truth := map[*routed]string{} // who has sent it
		var l lines
		var got, late []*routed
		sent := 0
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				got = append(got, l.take(rapid.IntRange(1, 6).Draw(t, "most"))...)
				continue
			}
			late = slices.DeleteFunc(late, func(m *routed) bool { return slices.Contains(got, m) })
			if len(late) > 0 && rapid.Bool().Draw(t, "heard") {
				n := rapid.IntRange(0, len(late)-1).Draw(t, "which")
				l.heard(late[n], truth[late[n]])
				late = slices.Delete(late, n, n+1)
				continue
			}
			sent++
			m := &routed{seq: uint64(sent), sender: rapid.SampledFrom([]string{"A", "B", devices}).Draw(t, "sender")}
			truth[m] = m.sender
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				m.sender = unknown
				late = append(late, m)
			}
			l.add(m)
		}
		for l.len() > 0 {
			got = append(got, l.take(3)...)
		}
		ordered, _ := inTurns(slices.Clone(got))
		for _, all := range [][]*routed{got, ordered} {
			last := map[string]uint64{}
			for _, m := range all {
				if who := truth[m]; m.seq < last[who] {
					t.Fatalf("message %d of %s comes after %d", m.seq, who, last[who])
				} else {
					last[who] = m.seq
				}
			}
			if len(all) != sent {
				t.Fatalf("%d of %d messages came", len(all), sent)
			}
		}
	})
}

// published is a message on its way to the route stream, and what is read of it.
func published(sender, body string, headers ...string) (*nats.Msg, *routed) {
	m := &nats.Msg{Subject: "rccs.route.alice.all", Data: []byte(body), Header: nats.Header{}}
	for n := 0; n < len(headers); n += 2 {
		m.Header[headers[n]] = []string{headers[n+1]}
	}
	read := &routed{subject: m.Subject, header: maps.Clone(m.Header), stored: time.Now()}
	if sender != "" {
		m.Header[layout.HeaderRequester] = []string{fmt.Sprintf(`{"user":%q}`, sender)}
	}
	return m, read
}

func TestSendersAreKnownWhereNATSSaysThem(t *testing.T) {
	t.Parallel()
	s := &senders{seed: maphash.MakeSeed(), most: maxSenders}
	for n := range 3 {
		for _, one := range []struct{ sender, body, id, want string }{
			{"A", "1", "", "A"}, {"A", "1", "one", "A"}, {"B", "1", "two", "B"}, {"", "of a part", "", "the tenant's own users"},
		} {
			heard, read := published(one.sender, one.body, "Nats-Msg-Id", one.id, "Nats-Expected-Stream", "RCCS_ROUTE")
			s.hear(heard)
			delete(read.header, "Nats-Expected-Stream")
			if got := s.of(read, heard.Data); got != one.want {
				t.Errorf("%d: %+v is of %q", n, one, got)
			}
			if got := s.of(read, heard.Data); got != unknown {
				t.Errorf("%d: %+v, which nobody has published again, is of %q", n, one, got)
			}
		}
	}
	if len(s.known) > 0 || len(s.on) > 0 || len(s.order) > 1 {
		t.Errorf("%d, %d and %d are remembered of what was read", len(s.known), len(s.on), len(s.order))
	}
}

// A service that repeats what another one sends, as often as it can, takes neither
// its own turns away nor the other's.
func TestAServiceThatRepeatsAnotherTakesNoTurns(t *testing.T) {
	t.Parallel()
	s := &senders{seed: maphash.MakeSeed(), most: maxSenders}
	same, read := published("FLOOD", "same")
	others, _ := published("OTHER", "same")
	for range 1000 {
		s.hear(same)
	}
	s.hear(others)
	differs, readDiffers := published("OTHER", "same", "Rccs-Type", "note") // what devices would see
	s.hear(differs)
	if got := s.of(readDiffers, differs.Data); got != "OTHER" {
		t.Errorf("a message with another header is of %q", got)
	}
	if got := s.of(read, same.Data); got != "OTHER" {
		t.Errorf("the first of the same is of %q", got)
	}
	for n := range 1000 {
		if got := s.of(read, same.Data); got != "FLOOD" {
			t.Fatalf("%d: is of %q", n, got)
		}
	}
}

// However often a service publishes the same message, the next one costs no more to
// look at: a sender is counted, not listed.
func TestAFloodOfTheSameMessageIsCounted(t *testing.T) {
	t.Parallel()
	s := &senders{seed: maphash.MakeSeed(), most: maxSenders}
	same, read := published("FLOOD", "same")
	other, _ := published("OTHER", "same")
	const flood = 10_000
	for range flood {
		s.hear(same)
	}
	s.hear(other)
	for _, all := range s.known {
		if len(all) != 2 || all[0] != (onWay{"FLOOD", flood}) {
			t.Errorf("%d messages are remembered as %+v", flood+1, all)
		}
	}
	if got := s.of(read, same.Data); got != "OTHER" {
		t.Errorf("the first of the same is of %q", got)
	}
	for range flood {
		s.of(read, same.Data)
	}
	if len(s.known) > 0 || len(s.on) > 0 {
		t.Errorf("%v and %v are remembered of what was read", s.known, s.on)
	}
}

// What the store refuses is published and never read.
func TestSendersOfWhatIsNeverReadAreForgotten(t *testing.T) {
	t.Parallel()
	const most = 1000
	s := &senders{seed: maphash.MakeSeed(), most: most}
	for n := range most + 100 {
		refused, _ := published("FLOOD", fmt.Sprint(n))
		s.hear(refused)
	}
	if len(s.known) != most || len(s.order) != most || s.on["FLOOD"] != most {
		t.Errorf("%d, %d and %d are remembered", len(s.known), len(s.order), s.on["FLOOD"])
	}
	for range 2 {
		m, read := published("OTHER", "other")
		read.stored = time.Now().Add(2 * refusedAfter)
		s.hear(m)
		if got := s.of(read, m.Data); got != "OTHER" {
			t.Errorf("is of %q", got)
		}
	}
	if len(s.known) > 0 || len(s.order) > 1 || len(s.on) > 0 {
		t.Errorf("%d and %d are remembered", len(s.known), len(s.order))
	}
}

// What was read before it was heard is of its sender when it is heard, and the turns
// go on.
func TestSendersThatAreHeardLateTakeTurns(t *testing.T) {
	t.Parallel()
	var all lines
	var late *routed
	for seq := range uint64(12) {
		m := &routed{seq: seq, sender: "FLOOD"}
		switch seq {
		case 5:
			m.sender, late = unknown, m
		case 11:
			m.sender = "OTHER"
		}
		all.add(m)
	}
	if got := seqs(all.take(2)); !slices.Equal(got, []uint64{0, 1}) {
		t.Errorf("with an unknown sender %d are taken, want them in the order of storage", got)
	}
	all.heard(late, "FLOOD")
	if got := seqs(all.take(4)); !slices.Equal(got, []uint64{11, 2, 3}) {
		t.Errorf("%d are taken, want the other's and two of the flood", got)
	}
	if got := seqs(all.take(100)); !slices.Equal(got, []uint64{4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("%d are taken, want the rest of the flood in order", got)
	}

	told := make(map[*routed]string)
	s := &senders{seed: maphash.MakeSeed(), most: 10, late: func(m *routed, sender string) { told[m] = sender }}
	m, read := published("FLOOD", "x")
	_, again := published("FLOOD", "x")
	if s.expect(read, m.Data) != unknown || s.expect(again, m.Data) != unknown {
		t.Error("a sender is known that nobody has heard")
	}
	s.hear(m)
	if told[read] != "FLOOD" || len(told) != 1 {
		t.Errorf("told %v, want the message that was read first", told)
	}
	s.hear(m)
	s.hear(m)
	if told[again] != "FLOOD" || len(s.expected) > 0 || len(s.known) != 1 {
		t.Errorf("told %v; %d are expected, and %d known", told, len(s.expected), len(s.known))
	}
	if got := s.expect(read, m.Data); got != "FLOOD" {
		t.Errorf("a message that was heard meanwhile is of %q", got)
	}
}

func seqs(all []*routed) (seqs []uint64) {
	for _, m := range all {
		seqs = append(seqs, m.seq)
	}
	return seqs
}

// A router that never hears remembers so many messages and no more.
func TestMessagesThatAreNeverHeardAreForgotten(t *testing.T) {
	t.Parallel()
	s := &senders{seed: maphash.MakeSeed(), most: 10}
	for n := range maxExpected + 100 {
		m, read := published("FLOOD", strconv.Itoa(n))
		s.expect(read, m.Data)
	}
	if len(s.expects) != maxExpected || len(s.expected) != maxExpected {
		t.Errorf("%d and %d are remembered, want %d", len(s.expects), len(s.expected), maxExpected)
	}
}

// A sender that comes while a user's waiting messages are given out need not wait for
// all of them.
func TestASenderThatComesDuringAPassEndsIt(t *testing.T) {
	t.Parallel()
	var r router
	q := &queue{}
	q.fresh.add(&routed{seq: 1000, sender: "OTHER"})
	for _, c := range []struct {
		last map[string]int
		want bool
	}{
		{map[string]int{"FLOOD": 255}, true},
		{map[string]int{"FLOOD": 255, "OTHER": 3}, true},
		{map[string]int{"FLOOD": 255, "OTHER": 20}, false}, // it has one in this pass
		{map[string]int{"FLOOD": 255, unknown: 7}, false},  // which may be OTHER's
	} {
		if got := r.newcomer(q, c.last, 16); got != c.want {
			t.Errorf("with the last of %v, it is %t", c.last, got)
		}
	}
}
