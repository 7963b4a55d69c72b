package coordinator

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"

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
		var got []*routed
		sent := 0
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				got = append(got, l.take(rapid.IntRange(1, 6).Draw(t, "most"))...)
				continue
			}
			sent++
			m := &routed{seq: uint64(sent), sender: rapid.SampledFrom([]string{"A", "B", devices}).Draw(t, "sender")}
			truth[m] = m.sender
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				m.sender = unknown
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

func TestSendersAreKnownWhereNATSSaysThem(t *testing.T) {
	t.Parallel()
	s := &senders{seed: maphash.MakeSeed()}
	message := func(sender, body string) *nats.Msg {
		return &nats.Msg{
			Subject: "rccs.route.alice.all", Data: []byte(body),
			Header: nats.Header{layout.HeaderRequester: {fmt.Sprintf(`{"user":%q}`, sender)}},
		}
	}
	of := func(body string) string { return s.of("rccs.route.alice.all", nil, []byte(body)) }
	s.heard(message("A", "1"))
	s.heard(message("A", "1"))
	s.heard(message("A", "same"))
	s.heard(message("B", "same"))
	s.heard(&nats.Msg{Subject: "rccs.route.alice.all", Data: []byte("of a part")})
	for body, want := range map[string]string{"1": "A", "same": unknown, "of a part": "the tenant's own users", "never": unknown} {
		if got := of(body); got != want {
			t.Errorf("%s is of %q, want %q", body, got, want)
		}
	}
	for n := range 2 * maxSenders {
		s.heard(message("C", fmt.Sprint("many ", n)))
	}
	if len(s.known) > maxSenders || of("1") != unknown {
		t.Errorf("%d messages are remembered", len(s.known))
	}
}
