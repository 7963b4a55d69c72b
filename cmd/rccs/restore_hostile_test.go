package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/testkit"
)

// A part of a tenant may give its own streams what keeps a server from taking them
// back: messages larger than may be published, a bound that is lower than what is
// stored, times to live that have ended. A backup with these is restored all the
// same, and with what is more than its limit of today. Where a tenant cannot be
// restored, all others can be.
func TestAPartOfATenantKeepsNoBackupFromBeingRestored(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/phone", "1")
	c.succeed(t, "tenants", "add", "acme")
	i.noted("tenant is served")
	dir := t.TempDir()
	creds := filepath.Join(dir, "part.creds")
	if err := os.WriteFile(creds, []byte(c.succeed(t, "creds", "part", "edge-1", "--tenant", "acme").out), 0o600); err != nil {
		t.Fatal(err)
	}
	hostile, err := nats.Connect(i.nats, nats.UserCredentials(creds), nats.CustomInboxPrefix("_RCCS"), nats.Timeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hostile.Close)
	js, err := jetstream.New(hostile, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	stream := func(conf jetstream.StreamConfig) {
		t.Helper()
		if _, err := js.CreateOrUpdateStream(t.Context(), conf); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(subject string, size int, header nats.Header) {
		t.Helper()
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: make([]byte, size), Header: header}); err != nil {
			t.Fatal(err)
		}
	}
	stream(jetstream.StreamConfig{Name: "LARGEST", Subjects: []string{"largest"}})
	stream(jetstream.StreamConfig{Name: "LARGER", Sources: []*jetstream.StreamSource{{Name: "LARGEST"}}})
	publish("largest", int(hostile.MaxPayload()), nil)
	testkit.Eventually(t, "JetStream has added its headers", func() bool {
		s, err := js.Stream(t.Context(), "LARGER")
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	stream(jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}})
	publish("small", 100, nil)
	stream(jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgSize: 1})
	stream(jetstream.StreamConfig{Name: "BRIEF", Subjects: []string{"brief"}, AllowMsgTTL: true})
	publish("brief", 1, nats.Header{"Nats-TTL": {"1s"}})
	publish("brief", 1, nil)

	restored := func(file string, more ...string) result {
		into := filepath.Join(t.TempDir(), "new")
		return console{}.run(t, append([]string{"restore", file, "--data", into, "--json"}, more...)...)
	}
	// Less than it has, which is only refused where that is known.
	c.run(t, "tenants", "set", "acme", "--max-storage", "200KB", "--server", "nats://127.0.0.1:1").refused(t, exitFailed, "changed in the keys, but no server has confirmed it")

	first := filepath.Join(dir, "first.tar")
	c.succeed(t, "backup", "--out", first)
	testkit.Eventually(t, "a message has had its time", func() bool {
		s, err := js.Stream(t.Context(), "BRIEF")
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	if got := restored(first); got.status != exitOK {
		t.Errorf("restored: %s", got.err)
	}

	// Of a tenant whose keys are gone, and of a name that is none.
	keys := filepath.Join(dir, "keys")
	if err := os.CopyFS(keys, os.DirFS(filepath.Join(i.data, "keys"))); err != nil {
		t.Fatal(err)
	}
	of, err := filepath.Glob(filepath.Join(keys, "tenant-acme*"))
	if err != nil || len(of) == 0 {
		t.Fatalf("%v, %v", of, err)
	}
	for _, file := range of {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(dir, "second.tar")
	c.succeed(t, "backup", "--no-keys", "--out", second)
	if got := restored(second, "--keys", keys); got.status == exitOK || !strings.Contains(got.err, "tenant acme") || !strings.Contains(got.err, "--without-tenant acme") {
		t.Errorf("told %q", got.err)
	}
	if got := restored(second, "--keys", keys, "--without-tenant", "acme"); got.status != exitOK || strings.Contains(got.out, `"messages":0`) {
		t.Errorf("without the tenant: %s%s", got.out, got.err)
	}
	for _, name := range []string{"default", "nobody"} {
		if got := restored(second, "--keys", keys, "--without-tenant", name); got.status == exitOK {
			t.Errorf("%s was left out", name)
		}
	}
}
