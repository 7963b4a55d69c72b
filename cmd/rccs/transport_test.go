package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// Everything over TLS, by flags alone, and renewed by SIGHUP.
func TestAllOverTLS(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("server")
	mine, mineKey := ca.Files("operator")
	dir := t.TempDir()
	conf := filepath.Join(dir, "nats.conf")
	block := fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ca.File)
	if err := os.WriteFile(conf, append(defaults.DefaultConfig(), block...), 0o600); err != nil {
		t.Fatal(err)
	}
	hangups := make(chan chan<- os.Signal, 1)
	i := &installation{data: filepath.Join(dir, "data")}
	i.running = console{hangup: func(to chan<- os.Signal) { hangups <- to }}.start(t, "serve", "--data", i.data, "--config", conf,
		"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--tls-cert", cert, "--tls-key", key, "--admin-tls-cert", cert, "--admin-tls-key", key)
	i.edge = i.await(`^devices +(wss://\S+)$`)[1]
	i.nats = i.await(`^nats +(tls://\S+)$`)[1]
	admin := strings.TrimPrefix(i.await(`^admin +(https://\S+)$`)[1], "https://")

	c := i.console()
	c.run(t, "send", "alice/phone", "1").refused(t, exitFailed, i.nats)
	c.run(t, "status", "--server-ca", ca.File).refused(t, exitFailed, i.nats) // no certificate of its own
	c.run(t, "status", "--server-cert", mine).refused(t, exitUsage, "--server-key")
	c.vars["RCCS_SERVER_CA"], c.vars["RCCS_SERVER_CERT"], c.vars["RCCS_SERVER_KEY"] = ca.File, mine, mineKey
	c.succeed(t, "send", "alice/phone", `{"n":1}`)
	c.run(t, "connect", "alice/phone", "--timeout", patient).refused(t, exitFailed, i.edge, "certificate")
	c.run(t, "connect", "alice/phone", "--timeout", patient, "--ca", key).refused(t, exitFailed, key)
	c.run(t, "connect", "alice/phone", "--url", strings.Replace(i.edge, "wss://", "ws://", 1)).refused(t, exitFailed, "ws://", "has TLS: its URL is wss://")
	if got := c.succeed(t, "connect", "alice/phone", "--ca", ca.File, "--count", "1", "--timeout", patient); !strings.Contains(got.out, `{"n":1}`) {
		t.Errorf("printed %q", got.out)
	}
	c.succeed(t, "bench", "latency", "--ca", ca.File, "--devices", "2", "--duration", "50ms", "--warmup", "1ms")
	c.succeed(t, "status", "--json")
	c.succeed(t, "devices", "revoke", "alice/phone")

	// An edge apart reaches the servers by the same files.
	apart := c.start(t, "edge", "--name", "apart", "--listen", "127.0.0.1:0", "--admin-listen", "", "--tls-cert", cert, "--tls-key", key)
	apart.await(`^devices +(wss://\S+)$`)
	if status := apart.stop(); status != exitOK {
		t.Errorf("edge ended with %d: %s", status, apart.stderr())
	}

	before := shownSerial(t, ca, admin)
	ca.Files("server")
	(<-hangups) <- syscall.SIGHUP
	i.noted("read again")
	if shownSerial(t, ca, admin) == before {
		t.Error("the old certificate is shown after SIGHUP")
	}
	if status := i.stop(); status != exitOK {
		t.Errorf("ended with %d: %s", status, i.stderr())
	}
}

// shownSerial is the number of the certificate that a listener shows.
func shownSerial(t *testing.T, ca *natstest.CA, addr string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: ca.Pool()}}).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestTransportFlagsThatAreRefused(t *testing.T) {
	t.Parallel()
	for line, c := range map[string]struct {
		status int
		want   string
	}{
		"--admin-listen 0.0.0.0:0":             {exitFailed, "--admin-token-file"},
		"--admin-listen :0":                    {exitFailed, "--admin-token-file"},
		"--tls-cert x":                         {exitFailed, "--tls-key"},
		"--admin-tls-key x":                    {exitFailed, "--admin-tls-cert"},
		"--tls-cert x --tls-key /nowhere/x":    {exitFailed, "--tls-cert"},
		"--admin-token-file /nowhere/token":    {exitFailed, "/nowhere/token"},
		"--allow-origin example.com":           {exitUsage, "https://app.example.com"},
		"--allow-origin https://a.example,,*":  {exitUsage, "--allow-origin"},
		"--allow-origin https://a.example/app": {exitUsage, "want an origin"},
		"--trusted-proxy proxy.example.com":    {exitUsage, "want a network"},
		"--trusted-proxy 10.0.0.0/8,x":         {exitUsage, "want a network"},
		"--device-messages -1":                 {exitUsage, "want a number from 0"},
		"--max-register-bytes 1":               {exitUsage, "want a number from 4096"},
		"--max-frame-bytes 1023":               {exitUsage, "want 0, or a number from 1024"},
		"--data=":                              {exitUsage, "--data is empty"},
		"--register-within 0":                  {exitUsage, "want a duration"},
		"--stop-within 0":                      {exitUsage, "want a duration"},
	} {
		args := append([]string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--nats-listen", "", "--admin-listen", "127.0.0.1:0"}, strings.Split(line, " ")...)
		got := console{}.run(t, args...)
		got.refused(t, c.status, c.want)
	}
}

func TestShownURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://127.0.0.1:4222":                "nats://127.0.0.1:4222",
		"nats://secret@a:1, tls://u:secret@b":  "nats://xxxxx@a:1,tls://xxxxx@b",
		"wss://edge.example.com/?token=secret": "wss://edge.example.com/?xxxxx",
		"secret:secret@a":                      "(not a URL)",
		"127.0.0.1:4222, [::1]:4222,nats":      "127.0.0.1:4222,[::1]:4222,nats",
		"://secret":                            "(not a URL)",
	} {
		if got := shown(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	for _, args := range [][]string{
		{"send", "a/b", "1", "--server", "nats://user:secret@127.0.0.1:1"},
		{"status", "--server", "nats://secret@127.0.0.1:1"},
		{"connect", "a/b", "--url", "ws://user:secret@127.0.0.1:1/?token=secret"},
		{"connect", "a/b", "--url", "ftp://user:secret@127.0.0.1:1/?token=secret"},
		{"devices", "revoke", "a/b", "--server", "nats://user:secret@127.0.0.1:1"},
	} {
		data := t.TempDir()
		console{}.succeed(t, "creds", "service", "x", "--data", data)
		if got := (console{}).run(t, append(args, "--data", data)...); got.status == exitOK || strings.Contains(got.err, "secret") {
			t.Errorf("%q: status %d, told %q", args, got.status, got.err)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"": "none", "none": "none", "none,10.1.2.3/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.1,::1": "192.0.2.1/32,::1/128",
	} {
		var f limitFlags
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(flags)
		if line != "" {
			if err := flags.Set("trusted-proxy", line); err != nil {
				t.Fatal(err)
			}
		}
		if got := flags.Lookup("trusted-proxy").Value.String(); got != want || len(f.options(defaultInboxLimit).Proxies) != strings.Count(want, "/") {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
