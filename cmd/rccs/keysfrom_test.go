package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Servers of one installation start from one directory of keys, such as a secret
// that is mounted.
func TestServeTakesTheKeysOfAnInstallation(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "made")
	out := filepath.Join(t.TempDir(), "edges.creds")
	if got := (console{}).succeed(t, "creds", "part", "edges", "--init", "--data", made, "--out", out); got.out != "" {
		t.Errorf("printed %q", got.out)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the credential: %v, %v", info, err)
	}
	i := serve(t, "--keys-from", filepath.Join(made, "keys"))
	apart := console{}.start(t, "edge", "--name", "apart", "--creds", out, "--server", i.nats, "--listen", "127.0.0.1:0", "--admin-listen", "")
	apart.await(`^devices +(ws://\S+)$`)

	console{}.offers(t, "apart", "edges", "drain", "--server", i.nats, "--creds", out, "")

	// An edge is found by the name that its own environment has.
	self := console{vars: map[string]string{"RCCS_NAME": "apart", "RCCS_SERVER": i.nats, "RCCS_CREDS": out}}
	if got := self.succeed(t, "edges", "drain"); !strings.Contains(got.out, "edge apart is drained") {
		t.Errorf("printed %q", got.out)
	}
	self.vars = nil
	self.run(t, "edges", "drain").refused(t, exitUsage, "want the EDGE's name")

	other := serve(t)
	console{}.run(t, "serve", "--data", i.data, "--keys-from", filepath.Join(other.data, "keys")).refused(t, exitFailed, "another installation")
}

// The keys of a cluster are made before its servers start, so its shards are chosen
// then.
func TestKeysAreMadeWithTheShardsOfTheServersToCome(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "made")
	creds := file(t, console{}.succeed(t, "creds", "part", "edges", "--init", "--shards", "4", "--data", made).out)
	i := serve(t, "--keys-from", filepath.Join(made, "keys"), "--shards", "4")
	console{}.succeed(t, "send", "alice/phone", "{}", "--server", i.nats, "--creds", creds)

	for _, command := range [][]string{
		{"creds", "part", "more", "--data", made},
		{"creds", "device", "alice/phone", "--init", "--data", made},
		{"creds", "service", "billing", "--init", "--data", made},
		{"serve", "--data", made, "--listen", "", "--nats-listen", "", "--admin-listen", ""},
	} {
		console{}.run(t, append(command, "--shards", "8")...).refused(t, exitFailed, "was made with --shards 4, and 8 are asked for: leave --shards out")
	}
}
