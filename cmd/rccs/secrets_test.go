package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/natstest"
)

// Every file of secrets that serve is given is refused when others may read or
// change it, with the chmod that mends it, and accepted with access of the
// group, as Kubernetes mounts secrets.
func TestFilesOfSecretsAreRefusedWhenTheyAreOpenToOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := natstest.NewCA(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ca.Files("devices")
	adminCert, adminKey := ca.Files("admin")
	natsCert, natsKey := ca.Files("nats")
	edgeCert, edgeKey := ca.Files("websocket")
	secret := strings.Repeat("k", 40) + "\n"
	made := filepath.Join(dir, "made")
	console{}.succeed(t, "creds", "device", "alice/phone", "--data", made, "--init")
	for name, c := range map[string]struct {
		file string
		data string // empty: a new one each time
		args []string
	}{
		"the admin token":       {write("token", secret), "", []string{"--admin-token-file"}},
		"the key of devices":    {key, "", []string{"--tls-cert", cert, "--tls-key"}},
		"the key of admin":      {adminKey, "", []string{"--admin-tls-cert", adminCert, "--admin-tls-key"}},
		"the key of the store":  {write("store", secret), "", []string{"--encryption-key-file"}},
		"the key of NATS":       {natsKey, "", []string{"--config", write("nats.conf", fmt.Sprintf("max_payload: 4MB\ntls { cert_file: %q, key_file: %q }\n", natsCert, natsKey))}},
		"a key of another part": {edgeKey, "", []string{"--config", write("ws.conf", fmt.Sprintf("leafnodes { listen: \"127.0.0.1:-1\", TLS { cert_file: %q, Key_File: %q } }\n", edgeCert, edgeKey))}},
		"a key of the keystore": {filepath.Join(made, "keys", "default.nk"), made, nil},
		"a key of the operator": {filepath.Join(made, "keys", "operator.nk"), made, nil},
	} {
		for _, mode := range []fs.FileMode{0o604, 0o644, 0o602, 0o601, 0o666} {
			if err := os.Chmod(c.file, mode); err != nil {
				t.Fatal(err)
			}
			console{}.run(t, serving(t, c.data, c.args, c.file)...).refused(t, exitFailed, "chmod o-rwx "+c.file)
		}
		if err := os.Chmod(c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("of %s", name)
		}
	}
	for _, file := range []string{key, adminKey, natsKey} {
		if err := os.Chmod(file, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	args := append(serving(t, "", nil, ""), "--tls-cert", cert, "--tls-key", key, "--config", filepath.Join(dir, "nats.conf"))
	r := console{}.start(t, args...)
	r.await(`^nats +\S+$`)
	if status := r.stop(); status != exitOK {
		t.Errorf("with access of the group it ended with %d: %s", status, r.stderr())
	}
}

// serving are the arguments of a serve that is given a file.
func serving(t *testing.T, data string, args []string, file string) []string {
	t.Helper()
	if data == "" {
		data = filepath.Join(t.TempDir(), "data")
	}
	all := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)
	if len(args) > 0 && args[0] != "--config" {
		all = append(all, file)
	}
	return all
}

// A shell makes the file of `rccs creds … > FILE` for all to read.
func TestACredentialsFileIsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	for name, args := range map[string][]string{
		"a device": {"device", "alice/phone"}, "a bearer token": {"device", "alice/phone", "--bearer"}, "tokens": {"device", "--bearer", "-"},
		"a service": {"service", "billing"}, "a part": {"part", "edge-1"}, "the system": {"system"},
	} {
		_, keys := madeKeys(t)
		path := filepath.Join(dir, name)
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		env := &environment{in: strings.NewReader("alice/phone\n"), out: file, err: t.Output(), lookup: func(string) (string, bool) { return "", false }}
		if status := env.run(t.Context(), append(append([]string{"creds"}, args...), "--data", filepath.Dir(keys.Dir()))); status != exitOK {
			t.Errorf("%s: status %d", name, status)
		}
		info, err := file.Stat()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: the file has mode %v and %d bytes, %v", name, info.Mode(), info.Size(), err)
		}
	}
	creds := filepath.Join(dir, "open.creds")
	text := console{}.succeed(t, "creds", "part", "edge-1", "--data", data, "--init").out
	for mode, refused := range map[fs.FileMode]bool{0o644: true, 0o604: true, 0o640: false, 0o600: false} {
		if err := os.WriteFile(creds, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(creds, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := credentialOf(creds); (err != nil) != refused {
			t.Errorf("with mode %04o it is read with %v", mode, err)
		}
		if !refused {
			continue
		}
		for _, args := range [][]string{{"edge"}, {"coordinator"}, {"status"}, {"send", "alice/phone", "hello"}} {
			console{}.run(t, append(args, "--server", "nats://127.0.0.1:1", "--creds", creds)...).refused(t, exitFailed, "chmod o-rwx "+creds)
		}
	}
}
