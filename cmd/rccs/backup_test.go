package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	got := console{}.succeed(t, "connect", "alice/phone", "--data", data, "--url", edge, "--count", "1", "--timeout", "30s")
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
	c.run(t, "backup", "--out", filepath.Join(dir, "none", "b.tar")).refused(t, exitFailed, "none")
	c.succeed(t, "backup", "--creds", creds, "--no-keys", "--out", out)
	c.run(t, "restore", out, "--data", filepath.Join(dir, "new")).refused(t, exitFailed, "--keys")
	c.succeed(t, "restore", out, "--data", filepath.Join(dir, "new"), "--keys", filepath.Join(i.data, "keys"))
}
