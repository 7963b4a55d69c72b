package inbox_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/subjects"
)

// Two users' devices of one name may use the same id, and their messages may be
// stored one after the other.
func TestRecipientsAreOfTheSendersUser(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	var seqs []uint64
	for _, to := range []string{"alice/phone", "bob/phone"} {
		a, err := subjects.ParseAddress(to)
		if err != nil {
			t.Fatal(err)
		}
		m := nats.NewMsg(subjects.Inbox(a.Key(), subjects.Normal))
		m.Header.Set(subjects.HeaderID, "1")
		m.Header.Set(subjects.HeaderFrom, "desktop")
		ack, err := s.js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, ack.Sequence)
	}
	got, err := s.hub.Recipients(t.Context(), seqs[0])
	if want := []inbox.Recipient{{Key: "alice.phone", Seq: seqs[0]}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
