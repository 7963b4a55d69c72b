package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A backup of a tenant with one shard is restored into four. Each message that was
// accepted before comes once, in order, to the user that it is for; what was
// acknowledged does not come again; and senders hear what became of theirs.
func TestShards_ABackupIsDividedAnew(t *testing.T) {
	t.Parallel()
	s := start(t)
	v := s.service(t, "billing")
	const users, each, acked = 10, 6, 2
	var all []string
	for range users {
		u := user(t)
		all = append(all, u)
		for n := range each {
			if _, err := v.try(inbox(u, "phone", "normal"), fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
		}
		phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", nil)
		for n := range each {
			if e := phone.message(); string(e.Payload) != fmt.Sprint(n) {
				t.Fatalf("%s got %s, want %d", u, e.raw, n)
			} else if n < acked {
				phone.ack(e.Seq)
			}
		}
		desktop.give("phone", "asked", nil)
		phone.wantMessage(`"asked"`)
	}
	soon := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
	for _, u := range all {
		if _, err := v.try("rccs.later."+token(u)+".phone.high.x", `"later"`, "Rccs-Id", "x",
			"Nats-Schedule", "@at "+soon, "Nats-Schedule-Target", "rccs.due."+token(u)+".phone.high"); err != nil {
			t.Fatal(err)
		}
		connect(t, s, u+"/watch", object{"type": "watch"}).leave()
		if _, err := v.try("rccs.route."+token(u)+".any.watch", `"routed"`); err != nil {
			t.Fatal(err)
		}
	}
	if status, err := s.terminate(); err != nil || status != 0 { // which stores all cursors
		t.Fatalf("ended with %d, %v", status, err)
	}
	s.begin(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "one.tar")
	must(t, "backup", "--data", s.data, "--server", s.NATS, "--out", file)
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	s.data = filepath.Join(dir, "four")
	must(t, "restore", file, "--data", s.data, "--shards", "4")
	s.begin(t)
	v = s.service(t, "billing-2")
	shards := map[string]bool{}
	for _, u := range all {
		ack, err := v.try(inbox(u, "phone", "normal"), `"new"`)
		if err != nil {
			t.Fatal(err)
		}
		shards[ack.Stream] = true
		phone, desktop := connect(t, s, u+"/phone", nil), connect(t, s, u+"/desktop", nil)
		want := []string{"2", "3", "4", "5", `"asked"`, `"new"`, `"later"`}
		var got []string
		for range want {
			e := phone.message()
			phone.ack(e.Seq)
			if got = append(got, string(e.Payload)); got[len(got)-1] == `"later"` { // of another lane
				got = got[:len(got)-1]
			}
		}
		if text := strings.Join(got, " "); text != strings.Join(want[:len(want)-1], " ") {
			t.Errorf("%s got %s, want %s, and what was due later", u, text, want)
		}
		if o := desktop.outcome(); o.Status != "delivered" {
			t.Errorf("the sender heard %+v", o)
		}
		watch := connect(t, s, u+"/watch", object{"type": "watch"})
		watch.ack(watch.wantMessage(`"routed"`).Seq)
	}
	if len(shards) < 2 || shards["RCCS_INBOX"] {
		t.Errorf("what is for %d users is in %v, of four shards", users, shards)
	}
}
