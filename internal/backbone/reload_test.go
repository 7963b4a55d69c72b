package backbone_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// secured is a server whose nats.conf has a tls block.
type secured struct {
	*backbone.Server
	ca   *natstest.CA
	conf string
}

// tlsBlock asks clients for a certificate, as for services of one's own.
func tlsBlock(ca *natstest.CA, cert, key string) string {
	return fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ca.File)
}

func startSecured(tb testing.TB, trust *trust) *secured {
	tb.Helper()
	s := &secured{ca: natstest.NewCA(tb), conf: filepath.Join(tb.TempDir(), "nats.conf")}
	cert, key := s.ca.Files("nats")
	s.write(tb, tlsBlock(s.ca, cert, key))
	opts := trust.options(tb.TempDir())
	opts.Config, opts.ConfigPath, opts.Listen = nil, s.conf, "127.0.0.1:0"
	s.Server = start(tb, opts)
	return s
}

func (s *secured) write(tb testing.TB, more string) {
	tb.Helper()
	must(tb, 0, os.WriteFile(s.conf, append(rccs.DefaultConfig(), more...), 0o600))
}

// serial is the number of the certificate that a new connection is shown.
func (s *secured) serial(tb testing.TB, user nats.Option, config *tls.Config) (string, *nats.Conn) {
	tb.Helper()
	nc, err := nats.Connect(s.ClientURL(), user, nats.Secure(config), nats.Timeout(testkit.Patience), nats.NoReconnect())
	must(tb, nc, err)
	tb.Cleanup(nc.Close)
	state, err := nc.TLSConnectionState()
	must(tb, state, err)
	return state.PeerCertificates[0].SerialNumber.String(), nc
}

func TestReloadOfCertificates(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s := startSecured(t, trust)
	user, _ := trust.user(t)
	inside := dial(t, s.Server, user)
	config := &tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{s.ca.Pair("service")}, MinVersion: tls.VersionTLS12}
	old, outside := s.serial(t, user, config)
	sub, err := outside.SubscribeSync("a.b")
	must(t, sub, err)
	must(t, 0, outside.FlushTimeout(testkit.Patience))

	s.ca.Files("nats")
	must(t, 0, s.Reload())
	if now, _ := s.serial(t, user, config); now == old {
		t.Error("the old certificate is shown after the reload")
	}
	for name, nc := range map[string]*nats.Conn{"inside": inside, "outside": outside} {
		if err := nc.Publish("a.b", nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(testkit.Patience); err != nil || nc.Stats().Reconnects != 0 {
			t.Errorf("%s was disturbed: %v, %d reconnects", name, err, nc.Stats().Reconnects)
		}
		_, err := sub.NextMsg(testkit.Patience)
		must(t, 0, err)
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s := startSecured(t, trust)
	user, _ := trust.user(t)
	if !strings.HasPrefix(s.ClientURL(), "tls://") {
		t.Errorf("URL %s, want tls://", s.ClientURL())
	}
	foreign := natstest.NewCA(t)
	for name, c := range map[string]struct {
		option nats.Option
		want   bool
	}{
		"its certificate":       {nats.Secure(&tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{s.ca.Pair("service")}}), true},
		"another's certificate": {nats.Secure(&tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{foreign.Pair("service")}}), false},
		"no certificate":        {nats.Secure(&tls.Config{RootCAs: s.ca.Pool()}), false},
		"TLS 1.1": {nats.Secure(&tls.Config{
			RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{s.ca.Pair("service")}, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11,
		}), false},
		"server not trusted": {nats.Secure(&tls.Config{RootCAs: foreign.Pool(), Certificates: []tls.Certificate{s.ca.Pair("service")}}), false},
	} {
		nc, err := nats.Connect(s.ClientURL(), user, c.option, nats.Timeout(testkit.Patience), nats.NoReconnect())
		if ok := err == nil; ok != c.want {
			t.Errorf("%s: %v, want success %t", name, err, c.want)
		}
		nc.Close()
	}
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s := startSecured(t, trust)
	user, _ := trust.user(t)
	config := &tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{s.ca.Pair("service")}}
	old, _ := s.serial(t, user, config)
	cert, key := s.ca.Files("renewed")
	for name, more := range map[string]string{
		"bad syntax":          "tls {",
		"no such file":        tlsBlock(s.ca, cert+"x", key),
		"key of another":      tlsBlock(s.ca, cert, filepath.Join(filepath.Dir(key), "nats.key")),
		"cannot be changed":   tlsBlock(s.ca, cert, key) + "server_name: other\n",
		"a smaller max store": tlsBlock(s.ca, cert, key) + "jetstream { max_file_store: 1MB }\n",
	} {
		s.write(t, more)
		if err := s.Reload(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if now, _ := s.serial(t, user, config); now != old {
			t.Errorf("%s: another certificate is shown", name)
		}
	}
	// Limits of clients may change at once.
	s.write(t, tlsBlock(s.ca, cert, key)+"max_connections: 30\n")
	must(t, 0, s.Reload())
	if now, _ := s.serial(t, user, config); now == old {
		t.Error("the old certificate is shown after the reload")
	}
}

// A store that is encrypted stays so, and its key is told to nobody.
func TestReloadOfAnEncryptedStore(t *testing.T) {
	t.Parallel()
	const key, other = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	trust := newTrust(t)
	opts := trust.options(t.TempDir())
	opts.StoreKey, opts.OldStoreKey = key, other
	s := start(t, opts)
	must(t, 0, s.Reload())
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}

	conf := filepath.Join(t.TempDir(), "nats.conf")
	opts = trust.options(t.TempDir())
	opts.Config, opts.ConfigPath = nil, conf
	must(t, 0, os.WriteFile(conf, []byte("jetstream { key: "+key+" }\n"), 0o600))
	s = start(t, opts)
	must(t, 0, os.WriteFile(conf, []byte("jetstream { key: "+other+" }\n"), 0o600))
	err := s.Reload()
	if err == nil || !strings.Contains(err.Error(), "restart") || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), other) {
		t.Errorf("reloaded with %v, want an error that shows no key", err)
	}
}

func TestReloadOfAServerThatDoesNotRun(t *testing.T) {
	t.Parallel()
	s, err := backbone.New(newTrust(t).options(t.TempDir()))
	must(t, s, err)
	if err := s.Reload(); !errors.Is(err, backbone.ErrNotRunning) {
		t.Errorf("%v, want ErrNotRunning", err)
	}
}
