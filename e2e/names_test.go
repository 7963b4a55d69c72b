package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two ids that differ in half a surrogate pair would become one, and the second
// message a repeat of the first.
func TestHalfASurrogatePairIsNoID(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", nil)
	for _, field := range []string{
		`"id":"order 1 \ud83d"`, `"id":"m","toDeviceId":"desktop\ud83e"`, `"id":"m","collapseKey":"\ude00"`, `"id":"m","correlationId":"\ud83d"`,
		`"id":"m","to":{"capability":"\ud83d\ud83d"}`, `"id":"m","userId":"\udc00"`,
	} {
		phone.sendText(`{"type":"user_message","payload":1,` + field + `}`)
		phone.wantError("BAD_MESSAGE")
	}
	phone.sendText(`{"type":"user_message","id":"m1","toDeviceId":"desktop","payload":{"text":"\ud83d"}}`)
	desktop.wantMessage(`{"text":"\ud83d"}`)
}

// What nobody will live to see is refused, and not delivered at once because its
// nanoseconds wrap.
func TestADelayIsAYearAtMost(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	phone := connect(t, s, u+"/phone", nil)
	s.register(t, u+"/desktop")
	send := func(at string) {
		phone.send(object{"id": newID(), "type": "user_message", "toDeviceId": "desktop", "payload": 1, "requiresAck": true, "deliverAt": at})
	}
	for _, at := range []string{
		"2300-01-01T00:00:00Z", "9999-12-31T23:59:59Z", time.Now().Add(367 * 24 * time.Hour).Format(time.RFC3339),
		"2026-11-28T14:00:00+24:00", "2027-01-01 00:00:00Z", "2027-01-01T00:00:00,5Z",
	} {
		send(at)
		phone.wantError("BAD_MESSAGE")
	}
	send(time.Now().Add(365 * 24 * time.Hour).Format(time.RFC3339))
	phone.wantAck()
}

// A selector of members that nobody knows would go to everybody.
func TestASelectorOfUnknownMembersIsRefused(t *testing.T) {
	t.Parallel()
	s := use(t)
	phone := connect(t, s, user(t)+"/phone", nil)
	for _, to := range []object{{"deviceId": "desktop"}, {"device": nil, "mode": "any"}, {"Device": "desktop"}} {
		phone.send(object{"id": newID(), "type": "user_message", "to": to, "payload": 1})
		phone.wantError("BAD_MESSAGE")
	}
}

func TestCredentialsOfReservedAndInvisibleNamesAreNotMade(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for _, name := range []string{"alice/server", "alice/service:billing", "alice/ph\u200bone", "ali\u202ece/phone", "alice/\u2800"} {
		if r := rccs(t, "", "creds", "device", name, "--data", data, "--init"); r.status != 2 || r.stdout != "" {
			t.Errorf("%+q: status %d, %s%s", name, r.status, r.stdout, r.stderr)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("keys were made for a name that is none")
	}
	if r := rccs(t, "", "creds", "service", "bill\u200bing", "--data", data, "--init"); r.status != 2 || !strings.Contains(r.stderr, "U+200B") {
		t.Errorf("a service: status %d, %s", r.status, r.stderr)
	}
}
