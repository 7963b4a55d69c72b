package snapshot

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
)

func archived(tb testing.TB, state string, entries ...*archive.Header) []byte {
	tb.Helper()
	var out bytes.Buffer
	compressed := s2.NewWriter(&out)
	w := archive.NewWriter(compressed)
	write := func(h *archive.Header, body []byte) {
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			tb.Fatal(err)
		}
	}
	write(&archive.Header{Name: stateEntry, Timestamp: 1, PayloadSize: int64(len(state))}, []byte(state))
	for _, h := range entries {
		write(h, bytes.Repeat([]byte("x"), int(h.HeaderSize+h.PayloadSize)))
	}
	if err := compressed.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestRewritePutsChangesInPlace(t *testing.T) {
	t.Parallel()
	in := archived(t, `{"first_seq":3,"last_seq":5,"messages":3,"extra":{"kept":true}}`,
		&archive.Header{Name: "a", Sequence: 3, Timestamp: 3, PayloadSize: 10},
		&archive.Header{Name: "b", Sequence: 5, Timestamp: 5, HeaderSize: 4, PayloadSize: 10},
		&archive.Header{})
	changes := map[string]change{
		"a": {subject: "a", seq: 9, at: 9, header: []byte("h"), body: []byte("new")},
		"c": {subject: "c", seq: 7, at: 7, body: []byte("late")}, // stood in no snapshot
	}
	var out bytes.Buffer
	s, err := rewrite(bytes.NewReader(in), &out, changes)
	if err != nil {
		t.Fatal(err)
	}
	if s.First != 3 || s.Last != 9 || s.Messages != 3 || s.Bytes != 1+14+1+4+1+4 {
		t.Errorf("%+v", s)
	}
	r := archive.NewReader(s2.NewReader(&out))
	var got []string
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if *h == (archive.Header{}) {
			break
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+" "+string(body))
	}
	want := []string{
		`state.json {"consumer_count":0,"extra":{"kept":true},"first_seq":3,"last_seq":9,"messages":3}`,
		"b xxxxxxxxxxxxxx", "c late", "a hnew",
	}
	if len(got) != len(want) {
		t.Fatalf("entries %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %q, want %q", got[i], want[i])
		}
	}
}

func TestEncodeHeaderLeavesOutWhatTheServerAdds(t *testing.T) {
	t.Parallel()
	h := nats.Header{
		"KV-Operation": {"DEL"}, "X": {"1", "2"}, "Nats-Subject": {"the publisher's", "s"}, "Nats-Sequence": {"7"},
	}
	want := "NATS/1.0\r\nKV-Operation: DEL\r\nNats-Subject: the publisher's\r\nX: 1\r\nX: 2\r\n\r\n"
	if got := string(encodeHeader(h)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := encodeHeader(nats.Header{"Nats-Sequence": {"7"}}); got != nil {
		t.Errorf("%q, want none", got)
	}
}

func FuzzRewrite(f *testing.F) {
	good := archived(f, `{"first_seq":3,"last_seq":5,"messages":1,"consumer_count":1}`,
		&archive.Header{Name: "consumers/d", PayloadSize: 0}, &archive.Header{Name: "a", Sequence: 3, PayloadSize: 10}, &archive.Header{})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(archive.MagicBytes))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		s, err := rewrite(bytes.NewReader(in), &out, nil)
		if err != nil {
			return
		}
		again, err := rewrite(bytes.NewReader(out.Bytes()), io.Discard, nil)
		if err != nil || *againWithout(again) != *againWithout(s) {
			t.Errorf("written: %+v; read again: %+v, %v", s, again, err)
		}
	})
}

// againWithout leaves what can be compared.
func againWithout(s *Stream) *struct {
	first, last, messages, bytes uint64
	consumers                    int
} {
	return &struct {
		first, last, messages, bytes uint64
		consumers                    int
	}{s.First, s.Last, s.Messages, s.Bytes, s.Consumers}
}
