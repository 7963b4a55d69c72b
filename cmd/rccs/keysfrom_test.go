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

	if got := (console{}).succeed(t, "__completeNoDesc", "edges", "drain", "--server", i.nats, "--creds", out, ""); !strings.Contains(got.out, "apart\n") {
		t.Errorf("offered %q, want the name of the edge", got.out)
	}

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
