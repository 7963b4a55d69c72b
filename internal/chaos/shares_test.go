package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
)

// Whoever fills the inboxes and the topics of a tenant stops at its share: its
// devices still register and acknowledge, and another tenant stores what it
// wants.
func TestFault_AFullTenantLeavesRoomForControlAndForOthers(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	const limit = "64MB"
	if err := os.WriteFile(conf, []byte("max_payload: 2MB\njetstream { max_file_store: "+limit+" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSingle(t, t.TempDir(), "--config", conf)
	if err := s.serving(); err != nil {
		t.Fatal(err)
	}
	if status, out := s.command(s.data, "tenants", "add", "other"); status != 0 {
		t.Fatalf("tenants add: %s", out)
	}
	other, err := s.keys().Tenant("other")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	neighbour := s.deviceOf(other, subjects.Address{User: "bob", Device: "phone"})
	eventually(t, "the other tenant is served", func() bool { return neighbour.Session().ID != "" }, new(string))

	const many = 1000
	nc := s.service()
	stored := store(t, nc, receiver, many, 200_000)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 { // more than all of the store
		if _, err := js.Publish(ctx, "rccs.topic.flood", []byte(strings.Repeat("x", 200_000))); err != nil {
			t.Fatalf("a topic drops the oldest, and refuses nothing: %v", err)
		}
	}
	if stored == 0 || stored == many {
		t.Fatalf("%d messages were stored: the share is no bound", stored)
	}
	began := time.Now()
	r := s.receive(receiver) // registers, and acknowledges
	if told := r.awaitAll(t, stored); told != 0 {
		t.Errorf("%d messages are told lost", told)
	}
	registered := time.Since(began)
	began = time.Now()
	if _, err := neighbour.SendJSON(ctx, "note", strings.Repeat("y", 200_000), client.To("phone")); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	t.Logf("%d messages fitted; the device had all of them in %s, another tenant stored one in %s", stored, registered, time.Since(began))
	if status, out := s.command(s.data, "revoke", "device", "alice/receiver"); status != 0 {
		t.Errorf("revocation: %s", out)
	}
}

// deviceOf is [single.device] in another tenant.
func (s *single) deviceOf(keys *auth.Keystore, a subjects.Address) *client.Client {
	s.t.Helper()
	return s.dial(keys, a, client.Options{})
}
