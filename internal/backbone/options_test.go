package backbone_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/backbone"
)

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	trust, other := newTrust(t), newTrust(t)
	for name, c := range map[string]struct {
		change func(*backbone.Options)
		want   string
	}{
		"no directory":      {func(o *backbone.Options) { o.Dir = "" }, "Options.Dir"},
		"two configs":       {func(o *backbone.Options) { o.ConfigPath = "x" }, "Options.ConfigPath"},
		"no operator":       {func(o *backbone.Options) { o.Operator = nil }, "Options.Operator"},
		"no system account": {func(o *backbone.Options) { o.SystemAccount = "" }, "Options.SystemAccount"},
		"no such account":   {func(o *backbone.Options) { o.Accounts = o.Accounts[1:] }, "lacks the system account"},
		"not a JWT":         {func(o *backbone.Options) { o.Accounts[1] = "x" }, "account 1 of"},
		"foreign account":   {func(o *backbone.Options) { o.Accounts[1] = other.tenantJWT }, "no key of operator"},
		"twice":             {func(o *backbone.Options) { o.Accounts[1] = o.Accounts[0] }, "given twice"},
		"listen":            {func(o *backbone.Options) { o.Listen = "localhost" }, "HOST:PORT"},
		"port":              {func(o *backbone.Options) { o.Listen = "localhost:http" }, `port "http"`},
		"port range":        {func(o *backbone.Options) { o.Listen = ":65536" }, `port "65536"`},
		"bad value":         {func(o *backbone.Options) { o.Config = []byte("\nmax_payload: many\n") }, "2:"},
		"unknown setting":   {func(o *backbone.Options) { o.Config = []byte("max_paylod: 1\n") }, "max_paylod"},
		"cluster":           {func(o *backbone.Options) { o.Config = []byte("cluster { port: -1 }\n") }, "Options.Listen"},
		"users": {func(o *backbone.Options) {
			o.Config = []byte("authorization { users: [ { user: a, password: b } ] }\n")
		}, "'rccs creds' make"},
		"accounts": {func(o *backbone.Options) {
			o.Config = []byte("accounts { a: { users: [ { nkey: UA6KOMQ67XOE3FHE37W4OXADVXVYISBNLTBUT2LSY5VFKAIJ7CRDR2RZ } ] } }\n")
		}, "'rccs creds' make"},
		"syntax": {func(o *backbone.Options) { o.Config = []byte("jetstream {\n") }, "nats.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := trust.options(t.TempDir())
			c.change(&opts)
			_, err := backbone.New(opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestConfigPathIsReadWithItsIncludes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "my.conf")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("my.conf", "include limits.conf\n")
	write("limits.conf", "max_payload: 2MB\n")
	trust := newTrust(t)
	user, _ := trust.user(t)
	opts := trust.options(t.TempDir())
	opts.Config, opts.ConfigPath = nil, path
	if n := dial(t, start(t, opts), user).MaxPayload(); n != 2<<20 {
		t.Errorf("max_payload is %d, want that of the included file", n)
	}

	write("limits.conf", "max_payload: many\n")
	if _, err := backbone.New(opts); err == nil || !strings.Contains(err.Error(), "limits.conf:1") {
		t.Errorf("error %v does not name the file and line", err)
	}
	opts.ConfigPath = filepath.Join(dir, "none.conf")
	if _, err := backbone.New(opts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
}

func TestOverriddenSettingsAreToldOf(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	opts := newTrust(t).options(t.TempDir())
	opts.Logger = slog.New(slog.NewTextHandler(&out, nil))
	for conf, want := range map[string]string{
		"listen: 0.0.0.0:4222\njetstream { store_dir: /nowhere }\n": "[listen store_dir]",
		"authorization { user: a, password: b }\n":                  "[authorization]",
		"authorization { token: t }\n":                              "[authorization]",
	} {
		out.Reset()
		opts.Config = []byte(conf)
		if _, err := backbone.New(opts); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); !strings.Contains(text, want) {
			t.Errorf("%q: log %q does not name %s", conf, text, want)
		}
	}
}

// A cluster needs what nats-server asks for, and no more.
func TestClusterBlockSurvives(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, _ := trust.user(t)
	opts := trust.options(t.TempDir())
	opts.Listen = "127.0.0.1:0"
	opts.Config = []byte("server_name: a\ncluster { name: c, listen: \"127.0.0.1:-1\", routes: [ nats://127.0.0.1:1 ] }\n")
	s := start(t, opts)
	if name := dial(t, s, user).ConnectedClusterName(); name != "c" {
		t.Fatalf("cluster %q, want c", name)
	}
	if err := s.Healthy(); err == nil {
		t.Fatal("healthy although the cluster has no leader")
	}

	opts.Config = []byte("cluster { name: c, listen: \"127.0.0.1:-1\", routes: [ nats://127.0.0.1:1 ] }\n")
	opts.Dir = t.TempDir()
	if err := startError(t, opts); !strings.Contains(err.Error(), "server_name") {
		t.Fatalf("error %v does not ask for server_name", err)
	}
}
