package reader

import (
	"testing"
)

func TestAckReplyOfBothForms(t *testing.T) {
	t.Parallel()
	want := ackReply{stream: 22, consumer: 3, time: 1700000000000000001, pending: 4}
	for _, reply := range []string{
		"$JS.ACK.RCCS_INBOX.abc.1.22.3.1700000000000000001.4",
		"$JS.ACK.hub.ACCHASH.RCCS_INBOX.abc.1.22.3.1700000000000000001.4",
		"$JS.ACK._.ACCHASH.RCCS_INBOX.abc.1.22.3.1700000000000000001.4.token",
	} {
		if got, ok := parseAckReply(reply); !ok || got != want {
			t.Errorf("%s: %+v %v", reply, got, ok)
		}
	}
}

func FuzzParseAckReply(f *testing.F) {
	for _, s := range []string{
		"$JS.ACK.RCCS_INBOX.abc.1.22.3.1700000000000000001.4", "$JS.ACK.......", "$JS.ACK.a.b.c.d.e.f.g", "",
		"$JS.ACK.hub.ACCHASH.RCCS_INBOX.abc.1.22.3.1700000000000000001.4",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		if got, ok := parseAckReply(reply); !ok && got != (ackReply{}) {
			t.Errorf("%q is refused with %+v", reply, got)
		}
	})
}
