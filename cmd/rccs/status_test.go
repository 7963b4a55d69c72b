package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	defaults "github.com/rccs-io/rccs"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestStatusShowsTheInstallation(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	phone := c.start(t, "connect", "alice/phone")
	phone.noted("connected as alice/phone")
	c.succeed(t, "send", "bob/phone", "1")
	var got struct {
		Server  struct{ Version string }
		Servers []struct {
			Name       string
			StoreLimit int64
		}
		Devices, Online int
		Edges           []struct{ Name string }
		Streams         []struct {
			Name     string
			Messages int
		}
		Behind []struct {
			User           string
			Unacknowledged int
		}
	}
	testkit.Eventually(t, "one device is online", func() bool {
		if err := json.Unmarshal([]byte(c.succeed(t, "status", "--json", "--interval", "10ms").out), &got); err != nil {
			t.Fatal(err)
		}
		return got.Online == 1
	})
	if got.Devices != 1 || len(got.Edges) != 1 || !strings.HasPrefix(got.Server.Version, "2.") || len(got.Servers) != 1 || got.Servers[0].StoreLimit <= 0 {
		t.Errorf("shown are %+v", got)
	}
	if len(got.Behind) != 1 || got.Behind[0].User != "bob" || got.Behind[0].Unacknowledged != 1 {
		t.Errorf("behind are %+v", got.Behind)
	}
	if len(got.Streams) < 12 || got.Streams[0].Name != "RCCS_INBOX" || got.Streams[0].Messages != 1 {
		t.Errorf("streams are %+v", got.Streams)
	}
	text := c.succeed(t, "status", "--interval", "0").out
	for _, want := range []string{"devices       1, 1 online\n", "RCCS_INBOX", "FALLS BEHIND", "bob/phone", got.Edges[0].Name} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not shown: %s", want, text)
		}
	}
}

// findings are those of the doctor, by check, that are not ok.
func (c console) findings(t *testing.T) (all map[string]string, status int) {
	t.Helper()
	got := c.run(t, "doctor", "--json")
	var list []struct{ Check, Level, What, Fix string }
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list) < 10 {
		t.Fatalf("%v in %q and %q", err, got.out, got.err)
	}
	all = make(map[string]string)
	for _, f := range list {
		if f.Level != "ok" {
			all[f.Check] = f.Level + " " + f.What
			if f.Fix == "" {
				t.Errorf("it is not said what to do: %+v", f)
			}
		}
	}
	return all, got.status
}

// finds waits until the findings are as they should be. On a busy machine it says that
// answers are late, or do not come.
func (c console) finds(t *testing.T, what string, as func(found map[string]string, status int) bool) {
	t.Helper()
	var found map[string]string
	status := 0
	defer func() {
		if t.Failed() {
			t.Logf("found %q, status %d", found, status)
		}
	}()
	testkit.Eventually(t, "the doctor to find "+what, func() bool {
		found, status = c.findings(t)
		return as(found, status)
	})
}

// withStore is a nats.conf with another size of the store.
func withStore(t *testing.T, size string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "nats.conf")
	text := bytes.Replace(defaults.DefaultConfig(), []byte("max_file_store: 10GB"), []byte("max_file_store: "+size), 1)
	testkit.Check(t, os.WriteFile(config, text, 0o600))
	return config
}

func TestDoctorFindsAFreshInstallationWell(t *testing.T) {
	t.Parallel()
	c := serve(t, "--config", withStore(t, "100MB")).console() // for which any disk has room
	c.finds(t, "nothing", func(found map[string]string, status int) bool { return len(found) == 0 && status == exitOK })
	if text := c.run(t, "doctor").out; !strings.Contains(text, "ok       streams       nothing to find fault with\n") {
		t.Errorf("printed %q", text)
	}
}

// How full a server is, and how much room its disk has, it tells the system
// account only, whose key lies with the others.
func TestDoctorFindsAFullStore(t *testing.T) {
	t.Parallel()
	i := serve(t, "--config", withStore(t, "4MB"))
	c := i.console()
	// A tenant fills its share of the store; the rest is kept for what must go on.
	fill := func(size int) {
		for n := 0; c.run(t, "send", "alice/phone", strings.Repeat("x", size)).status == exitOK; n++ {
			if n == 200 {
				t.Fatal("the share is never full")
			}
		}
	}
	fill(700 << 10)
	c.finds(t, "a share that is full soon", func(found map[string]string, status int) bool {
		return strings.HasPrefix(found["shares"], "warn stream RCCS_INBOX is 8") && status == exitOK
	})
	fill(20 << 10)
	c.finds(t, "a share that is full", func(found map[string]string, status int) bool {
		return strings.HasPrefix(found["shares"], "fail stream RCCS_INBOX is ") && status == exitFailed
	})
	got := c.run(t, "doctor")
	if !strings.Contains(got.out, "give the tenant more") || !strings.HasSuffix(got.err, "rccs: "+errUnwell.Error()+"\n") {
		t.Errorf("printed %q and %q", got.out, got.err)
	}
	// Without the keys it is said that this is not known.
	cred, err := c.environment(nil, nil, nil).operator(&serverFlags{data: i.data})
	if err != nil {
		t.Fatal(err)
	}
	file, err := cred.File()
	if err != nil {
		t.Fatal(err)
	}
	creds := filepath.Join(t.TempDir(), "operator.creds")
	if err := os.WriteFile(creds, file, 0o600); err != nil {
		t.Fatal(err)
	}
	c.vars["RCCS_CREDS"] = creds
	if found, _ := c.findings(t); !strings.HasPrefix(found["disk"], "unknown ") {
		t.Errorf("found %q", found)
	}
}
