package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
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

// A backup of a single server whose tenant has four shards is restored into a cluster
// of three. What was acknowledged does not come again, the rest comes once, and new
// messages are stored in the same shards, with three copies.
func TestShards_AreRestoredIntoACluster(t *testing.T) {
	t.Parallel()
	need.Long(t, "it runs a cluster of three servers")
	s := start(t, "--shards", "4")
	v := s.service(t, "billing")
	const users = 10
	shards := map[string]string{}
	for range users {
		u := user(t)
		for n := range 3 {
			ack, err := v.try(inbox(u, "phone", "normal"), fmt.Sprint(n))
			if err != nil {
				t.Fatal(err)
			}
			shards[u] = ack.Stream
		}
		phone := connect(t, s, u+"/phone", nil)
		phone.ack(phone.wantMessage("0").Seq)
		phone.leave()
		if _, err := v.try("rccs.later."+token(u)+".phone.high.x", `"later"`, "Rccs-Id", "x",
			"Nats-Schedule", "@at "+time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "rccs.due."+token(u)+".phone.high"); err != nil {
			t.Fatal(err)
		}
	}
	if status, err := s.terminate(); err != nil || status != 0 { // which stores all cursors
		t.Fatalf("ended with %d, %v", status, err)
	}
	s.begin(t)
	file := filepath.Join(t.TempDir(), "four.tar")
	must(t, "backup", "--data", s.data, "--server", s.NATS, "--out", file)
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}

	plan := clusterPlan(t)
	if err := os.MkdirAll(plan.Data(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.data, "keys"), filepath.Join(plan.Data(), "keys")); err != nil {
		t.Fatal(err)
	}
	all := runCluster(t, plan, func(first localcluster.Process) {
		testkit.Eventually(t, "the servers wait for the restore", func() bool {
			resp, err := http.Get("http://" + first.Admin + "/readyz") //nolint:noctx // the address is on this machine
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "rccs restore")
		})
		must(t, "restore", file, "--data", plan.Data(), "--cluster", "nats://"+first.NATS)
	}, "--restoring")
	v = all[0].service(t, "billing-2")
	n := 0
	for u, before := range shards {
		testkit.Eventually(t, "a message is stored", func() bool { // the cluster may choose a leader meanwhile
			ack, err := v.try(inbox(u, "phone", "normal"), `"new"`, "Nats-Msg-Id", u)
			if err == nil && ack.Stream != before {
				t.Errorf("%s was in %s, and is in %s", u, before, ack.Stream)
			}
			return err == nil
		})
		phone := connect(t, all[n%len(all)], u+"/phone", nil)
		n++
		var got []string
		for range 4 {
			e := phone.message()
			phone.ack(e.Seq)
			if string(e.Payload) != `"later"` { // of another lane
				got = append(got, string(e.Payload))
			}
		}
		if text := strings.Join(got, " "); text != `1 2 "new"` {
			t.Errorf("%s got %s, and want what it had not acknowledged, and what was due later", u, text)
		}
	}
	testkit.Eventually(t, "doctor finds every stream with three copies", func() bool {
		return rccs(t, "", "doctor", "--data", plan.Data(), "--server", all[0].NATS).status == 0
	})
	var status struct {
		Streams []struct {
			Name     string `json:"name"`
			Replicas []any  `json:"replicas"` // beside the leader
		} `json:"streams"`
	}
	if err := json.Unmarshal([]byte(must(t, "status", "--data", plan.Data(), "--server", all[0].NATS, "--interval", "0", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	for _, one := range status.Streams {
		if len(one.Replicas) != 2 {
			t.Errorf("%s has %d copies", one.Name, 1+len(one.Replicas))
		}
	}
	if len(status.Streams) < 4*9 {
		t.Errorf("%d streams", len(status.Streams))
	}
}
