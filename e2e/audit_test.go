package e2e_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

type auditRecord struct {
	At                                time.Time
	Action, Who, From, Target, Detail string
	Seq                               uint64
}

func TestAuditKeepsWhatOperatorsDo(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := user(t)
	begin := time.Now()
	d := connect(t, s, u+"/d", nil)
	d.tell("d", "x", nil)
	d.message()
	d.leave()
	at := []string{"--server", s.NATS, "--data", s.data}
	run := func(args ...string) { must(t, append(args, at...)...) }
	run("missed", u+"/d")
	run("replay", u+"/d", "--missed")
	rccs(t, "", append([]string{"trace", "nothing", "--since", "1m"}, at...)...) // it finds nothing
	run("inbox", "purge", u+"/d", "--yes")
	run("devices", "forget", u+"/d", "--yes")
	run("devices", "revoke", u+"/d")
	run("revoke", "undo", "device", u+"/d")
	var list []auditRecord
	if err := json.Unmarshal([]byte(must(t, append([]string{"audit", "--json"}, at...)...)), &list); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	last := uint64(0)
	for _, r := range list {
		actions = append(actions, r.Action)
		if r.Action != "read" && r.Target != u+"/d" || r.From != host || r.Who == "" || r.At.Before(begin.Add(-time.Second)) || r.Seq <= last {
			t.Errorf("record %+v", r)
		}
		last = r.Seq
	}
	if got := strings.Join(actions, " "); got != "read replay read purge forget revoke unrevoke" {
		t.Errorf("recorded %s", got)
	}
	if out := must(t, append([]string{"audit", "--action", "revoke"}, at...)...); strings.Count(out, u+"/d") != 1 {
		t.Errorf("%s", out)
	}
}

// Not even a part of RCCS, which may do everything in the tenant, removes a
// record.
func TestAuditIsAppendOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	rccs(t, "", "missed", user(t)+"/d", "--server", s.NATS, "--data", s.data) // whom nobody knows, but that was asked
	part := s.serviceBy(t, must(t, "creds", "part", "x", "--data", s.data))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := part.js.Stream(ctx, "RCCS_AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(ctx); err == nil {
		t.Error("it can be purged")
	}
	if err := stream.DeleteMsg(ctx, 1); err == nil {
		t.Error("a record can be deleted")
	}
	config := stream.CachedInfo().Config
	config.DenyDelete, config.DenyPurge = false, false
	if _, err := part.js.UpdateStream(ctx, config); err == nil {
		t.Error("it can be made open to deletion")
	}
	service := s.service(t, "x")
	if _, err := service.js.Publish(ctx, "rccs.audit.revoke", []byte("{}"), jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("a service writes records")
	}
}
