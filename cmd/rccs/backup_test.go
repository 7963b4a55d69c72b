package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "send", "alice/phone", "1")
	dir := t.TempDir()
	file, data := filepath.Join(dir, "b.tar"), filepath.Join(dir, "new")

	made := c.succeed(t, "backup", "--out", file)
	if !strings.HasPrefix(made.out, file+": ") || !strings.Contains(made.out, "with the keys") {
		t.Errorf("printed %q", made.out)
	}
	c.run(t, "backup", "--out", file).refused(t, exitFailed, file, "exists")
	looked := c.succeed(t, "backup", "verify", file)
	if !strings.Contains(looked.out, "RCCS_INBOX") || !strings.Contains(looked.out, "whole: ") {
		t.Errorf("printed %q", looked.out)
	}
	var m struct {
		Keys    bool
		Streams []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(c.succeed(t, "backup", "verify", file, "--json").out), &m); err != nil || !m.Keys || len(m.Streams) == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	c.run(t, "restore", file).refused(t, exitFailed, i.data, "not empty")
	c.succeed(t, "restore", file, "--data", data)

	again := console{}.start(t, "serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "", "--admin-listen", "")
	edge := again.await(`^devices +(ws://\S+)$`)[1]
	got := console{}.succeed(t, "connect", "alice/phone", "--data", data, "--url", edge, "--count", "1", "--timeout", patient)
	if !strings.HasSuffix(got.out, ": 1\n") {
		t.Errorf("printed %q", got.out)
	}
}

func TestBackupsThatAreRefused(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c, dir := i.console(), t.TempDir()
	letter := filepath.Join(dir, "letter.tar")
	if err := os.WriteFile(letter, []byte("dear friend"), 0o600); err != nil {
		t.Fatal(err)
	}
	creds := filepath.Join(dir, "operator.creds")
	if err := os.WriteFile(creds, []byte(c.succeed(t, "creds", "part", "operator").out), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "b.tar")
	c.run(t, "backup").refused(t, exitUsage, "--out")
	c.run(t, "backup", "nosuch", "--out", out).refused(t, exitUsage, "want none")
	c.run(t, "backup", "verify").refused(t, exitUsage, "FILE")
	c.run(t, "backup", "verify", letter).refused(t, exitFailed, letter, "not a backup")
	c.run(t, "restore", letter, "--data", filepath.Join(dir, "new")).refused(t, exitFailed, letter, "not a backup")
	c.run(t, "backup", "--creds", creds, "--out", out).refused(t, exitFailed, "--no-keys")
	c.run(t, "backup", "--server", "nats://127.0.0.1:1", "--out", out).refused(t, exitFailed, "--server")
	c.run(t, "backup", "--out", filepath.Join(dir, "none", "b.tar")).refused(t, exitFailed, filepath.Join("none", "b.tar"))
	c.succeed(t, "backup", "--creds", creds, "--no-keys", "--out", out)
	c.run(t, "restore", out, "--data", filepath.Join(dir, "new")).refused(t, exitFailed, "--keys")
	c.succeed(t, "restore", out, "--data", filepath.Join(dir, "new"), "--keys", filepath.Join(i.data, "keys"))
}

// A tenant whose own part has deleted its streams keeps no other from being backed up.
func TestABackupWithoutATenantHasAllOthers(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c, out := i.console(), filepath.Join(t.TempDir(), "b.tar")
	c.succeed(t, "tenants", "add", "acme")
	c.succeed(t, "tenants", "add", "zed")
	c.succeed(t, "send", "alice/phone", "1", "--tenant", "zed")
	js, err := jetstream.New(i.part(t, "acme"), jetstream.WithDefaultTimeout(testkit.Patience))
	testkit.Check(t, err)
	testkit.Check(t, js.DeleteStream(t.Context(), "RCCS_INBOX"))

	c.run(t, "backup", "--out", out).refused(t, exitFailed, "tenant acme", "--without-tenant acme")
	c.run(t, "backup", "--out", out, "--without-tenant", "amce").refused(t, exitUsage, "no tenant amce", "'rccs tenants ls'")
	c.run(t, "backup", "--out", out, "--without-tenant", "default").refused(t, exitUsage, "default")
	creds := file(t, c.succeed(t, "creds", "part", "operator").out)
	c.run(t, "backup", "--out", out, "--creds", creds, "--no-keys", "--without-tenant", "acme").refused(t, exitUsage, "--without-tenant")
	c.succeed(t, "backup", "--out", out, "--without-tenant", "acme")

	var m struct {
		Streams []struct{ Name, Tenant string }
	}
	testkit.Check(t, json.Unmarshal([]byte(c.succeed(t, "backup", "verify", out, "--json").out), &m))
	tenants := map[string]bool{}
	for _, s := range m.Streams {
		tenants[s.Tenant] = true
	}
	if want := map[string]bool{"": true, "zed": true}; !maps.Equal(tenants, want) {
		t.Errorf("it has the tenants %v", tenants)
	}
	data := filepath.Join(t.TempDir(), "new")
	c.succeed(t, "restore", out, "--data", data)
	again := serve(t, "--data", data)
	again.data = data
	if got := again.console().succeed(t, "connect", "alice/phone", "--count", "1", "--timeout", patient, "--tenant", "zed").out; !strings.HasSuffix(got, ": 1\n") {
		t.Errorf("a device of another tenant got %q", got)
	}
	again.console().succeed(t, "send", "alice/phone", "1", "--tenant", "acme") // it is empty, and served
}

func TestServeEncrypts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, key, open := filepath.Join(dir, "data"), filepath.Join(dir, "key"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{key: 0o600, open: 0o644} {
		if err := os.WriteFile(path, []byte(strings.Repeat("k", 40)+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(more ...string) []string {
		return append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", ""}, more...)
	}
	r := console{}.start(t, serve("--encryption-key-file", key)...)
	nats := r.await(`^nats +(nats://\S+)$`)[1]
	c := console{vars: map[string]string{"RCCS_DATA": data, "RCCS_SERVER": nats}}
	c.succeed(t, "send", "alice/phone", "1")
	file := filepath.Join(dir, "b.tar")
	c.succeed(t, "backup", "--out", file)
	if status := r.stop(); status != exitOK {
		t.Fatalf("ended with %d: %s", status, r.stderr())
	}
	for _, c := range []struct {
		vars map[string]string
		args []string
		want []string
	}{
		{nil, nil, []string{"encrypted", "--encryption-key-file", "RCCS_JS_KEY"}},
		{map[string]string{"RCCS_JS_KEY": strings.Repeat("x", 40)}, nil, []string{"another key", "--encryption-key-file"}},
		{map[string]string{"RCCS_JS_KEY": "short"}, nil, []string{"openssl rand"}},
		{map[string]string{"RCCS_JS_KEY": "x"}, []string{"--encryption-key-file", key}, []string{"both given"}},
		{nil, []string{"--encryption-key-file", open}, []string{"chmod o-rwx " + open}},
		{nil, []string{"--encryption-key-file", filepath.Join(dir, "none")}, []string{"none"}},
		{nil, []string{"--encryption-old-key-file", key}, []string{"new key"}},
	} {
		console{vars: c.vars}.run(t, serve(c.args...)...).refused(t, exitFailed, c.want...)
	}
	// The backup is not encrypted, what is restored is again.
	restored := filepath.Join(dir, "new")
	console{}.succeed(t, "restore", file, "--data", restored, "--encryption-key-file", key)
	again := console{vars: map[string]string{"RCCS_JS_KEY": strings.Repeat("k", 40)}}.start(t,
		"serve", "--data", restored, "--listen", "127.0.0.1:0", "--nats-listen", "", "--admin-listen", "")
	edge := again.await(`^devices +(ws://\S+)$`)[1]
	console{}.succeed(t, "connect", "alice/phone", "--data", restored, "--url", edge, "--count", "1", "--timeout", patient)
	if status := again.stop(); status != exitOK {
		t.Errorf("ended with %d: %s", status, again.stderr())
	}
	console{}.run(t, "serve", "--data", restored, "--listen", "127.0.0.1:0", "--nats-listen", "").refused(t, exitFailed, "encrypted")
}

func TestServeRefusesADirectoryOpenToOthers(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	console{}.succeed(t, "creds", "service", "a", "--data", data, "--init")
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	console{}.run(t, "serve", "--data", data).refused(t, exitFailed, "chmod o-rwx "+data)
}
