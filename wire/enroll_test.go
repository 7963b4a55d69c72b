package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/wire"
)

func enrollment() wire.Enrollment {
	return wire.Enrollment{Code: "ABCD-EFGH", Device: "phone", PublicKey: "UABC", Time: time.Unix(1_700_000_000, 5).UTC()}
}

func signedBody(tb testing.TB, e wire.Enrollment) []byte {
	tb.Helper()
	s, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	s.Sig = "c2ln"
	body, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func TestEnrollmentIsReadBack(t *testing.T) {
	t.Parallel()
	want := enrollment()
	got, s, err := wire.DecodeEnrollment(signedBody(t, want))
	if err != nil || got != want || s.Sig != "c2ln" {
		t.Errorf("%+v, %+v, %v", got, s, err)
	}
	if m := string(s.Message(wire.PurposeRenew)); m != "rccs renew v1\n"+s.Request {
		t.Errorf("signed is %q", m)
	}
}

func TestBadEnrollmentsAreRefused(t *testing.T) {
	t.Parallel()
	with := func(change func(*wire.Enrollment)) string {
		e := enrollment()
		change(&e)
		return string(signedBody(t, e))
	}
	inner := func(text string) string {
		return `{"request":"` + base64.RawURLEncoding.EncodeToString([]byte(text)) + `","sig":"c2ln"}`
	}
	for body, code := range map[string]wire.Code{
		``: wire.BadMessage, `null`: wire.BadMessage, `[]`: wire.BadMessage, `{}`: wire.BadMessage,
		`{"request":"e30"}`:            wire.BadMessage,
		`{"request":"?","sig":"c2ln"}`: wire.BadMessage,
		inner(`{`):                     wire.BadMessage,
		inner(`{"publicKey":1}`):       wire.BadMessage,
		inner(`{}`):                    wire.BadMessage,
		inner(`{"publicKey":"U"}`):     wire.BadMessage,
		strings.Repeat(" ", 33<<10):    wire.MessageTooLarge,
		with(func(e *wire.Enrollment) { e.PublicKey = "" }):                        wire.BadMessage,
		with(func(e *wire.Enrollment) { e.Time = time.Time{} }):                    wire.BadMessage,
		with(func(e *wire.Enrollment) { e.Code = strings.Repeat("A", 65) }):        wire.BadMessage,
		with(func(e *wire.Enrollment) { e.Token = strings.Repeat("A", 16<<10+1) }): wire.BadMessage,
	} {
		if _, _, err := wire.DecodeEnrollment([]byte(body)); !errors.Is(err, code) {
			t.Errorf("%.80q: %v, want %s", body, err, code)
		}
	}
}

// FuzzEnrollment: what is taken is complete and can be written again; what is
// refused is told with a code.
func FuzzEnrollment(f *testing.F) {
	f.Add(signedBody(f, enrollment()))
	f.Add([]byte(`{"request":"e30","sig":"c2ln"}`))
	f.Add([]byte(`{"request":"bnVsbA==","sig":"c2ln"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, s, err := wire.DecodeEnrollment(body)
		if err != nil {
			if code := wire.AsError(err).Code; code != wire.BadMessage && code != wire.MessageTooLarge {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if e.PublicKey == "" || e.Time.IsZero() || s.Sig == "" {
			t.Fatalf("took %+v", e)
		}
		again, err := e.Encode()
		if err != nil {
			return // a time with a zone that JSON does not write
		}
		again.Sig = s.Sig
		text, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := wire.DecodeEnrollment(text); err != nil && len(text) <= wire.MaxEnrollment || err == nil && !back.Time.Equal(e.Time) {
			t.Fatalf("%+v came back as %+v, %v", e, back, err)
		}
	})
}
