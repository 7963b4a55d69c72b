package reader

import (
	"strconv"
	"strings"
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

func TestANumberOfAReplyIsReadAsStrconvDoes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", ".", "0", "7.", "007.x", "1234567890123456789.1", "9223372036854775799", "9223372036854775808", "99999999999999999999", "1a", "-1", "+1", " 1", "1_0", "1/2", "1:2"} {
		token, rest, _ := strings.Cut(s, ".")
		want, err := strconv.ParseUint(token, 10, 63)
		n, left, ok := parseNumber(s)
		if ok != (err == nil) || ok && (n != want || left != rest) {
			t.Errorf("%q: %d, %q, %t; strconv %d, %v", s, n, left, ok, want, err)
		}
	}
}
