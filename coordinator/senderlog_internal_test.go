package coordinator

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the order in which senders become known, the log says of each message who
// has sent it, also after it was stored and read.
func TestTheLogOfSendersSaysWhoHasSentWhat(t *testing.T) {
	t.Parallel()
	made := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		var l senderLog
		truth := map[uint64]string{}
		for range rapid.IntRange(0, 300).Draw(t, "messages") {
			seq := rapid.Uint64Range(1, 200).Draw(t, "seq")
			sender := rapid.SampledFrom([]string{"A", "B", devices}).Draw(t, "sender")
			if truth[seq] == "" {
				truth[seq] = sender
				l.add(seq, sender)
			}
		}
		first := rapid.Uint64Range(0, 200).Draw(t, "first")
		l.forgetBefore(first)
		body, err := l.encode(made)
		if err != nil {
			t.Fatal(err)
		}
		read := &l
		if body != nil {
			read = new(senderLog)
			if err := read.decode(body, made.UTC()); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		}
		for seq, sender := range truth {
			want := sender
			if seq < first {
				want = unknown
			}
			for name, l := range map[string]*senderLog{"the log": &l, "what was stored": read} {
				if got := l.of(seq); got != want && sender != devices { // what devices send can be told by itself
					t.Fatalf("%s says that %d is of %q, want %q", name, seq, got, want)
				}
			}
		}
	})
}

// However services mix, the log is bounded. The oldest are forgotten, which go first.
func TestTheLogOfSendersIsBounded(t *testing.T) {
	t.Parallel()
	var l senderLog
	const sent = 4 * maxRuns
	for seq := range uint64(sent) {
		l.add(seq+1, []string{"A", "B"}[seq%2])
	}
	if len(l.runs) > maxRuns || l.of(sent) != "B" || l.of(1) != unknown {
		t.Errorf("%d runs; the last is of %q, the first of %q", len(l.runs), l.of(sent), l.of(1))
	}
	body, err := l.encode(time.Now())
	if err != nil || len(body) > 128<<10 {
		t.Errorf("%d bytes are stored, %v", len(body), err)
	}
}

func TestALogOfSendersOfAnotherStreamIsNotBelieved(t *testing.T) {
	t.Parallel()
	made := time.Now()
	var l, read senderLog
	for seq := range uint64(saveSendersFrom) {
		l.add(seq+1, "A")
	}
	body, err := l.encode(made)
	if err == nil {
		err = read.decode(body, made.Add(time.Second))
	}
	if err != nil || read.of(1) != unknown {
		t.Errorf("message 1 is of %q, %v", read.of(1), err)
	}
}

func FuzzSenderLog(f *testing.F) {
	for _, seed := range []string{
		`{"created":"0001-01-01T00:00:00Z","senders":["A","B"],"runs":[1,30,0,1,10,1]}`, `{"senders":["A"],"runs":[1,1,1]}`,
		`{"senders":["A"],"runs":[18446744073709551615,2,0]}`, `{"senders":["A"],"runs":[0,1,0]}`, `{"runs":[1]}`, `[]`,
	} {
		f.Add([]byte(seed), uint64(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, seq uint64) {
		var l, again senderLog
		var created time.Time
		if err := l.decode(data, created); err != nil {
			if !errors.Is(err, errSenderLog) || len(l.runs) > 0 {
				t.Fatalf("%v, and %d runs", err, len(l.runs))
			}
			return
		}
		end := uint64(0)
		for _, r := range l.runs {
			if r.from <= end || r.to < r.from || l.of(r.from) != r.sender || l.of(r.to) != r.sender {
				t.Fatalf("%+v", l.runs)
			}
			end = r.to
		}
		body, err := l.encode(created)
		if err == nil && body != nil {
			err = again.decode(body, created)
		}
		if err != nil || body != nil && again.of(seq) != l.of(seq) {
			t.Fatalf("%d is of %q, and %q when read again: %v", seq, l.of(seq), again.of(seq), err)
		}
	})
}
