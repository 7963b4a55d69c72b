package tlsfiles_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/internal/tlsfiles"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// open makes a store that looks often.
func open(t *testing.T, files tlsfiles.Files) (*tlsfiles.Store, *testkit.Log) {
	t.Helper()
	log := &testkit.Log{}
	s, err := tlsfiles.Open(tlsfiles.Options{
		Files: files, Name: "test", Poll: 5 * time.Millisecond, Logger: log.Logger(slog.LevelInfo),
	})
	testkit.Check(t, err)
	s.Start()
	t.Cleanup(func() { testkit.Check(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s, log
}

// echo listens with TLS and sends back what comes.
func echo(t *testing.T, s *tlsfiles.Store) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Config())
	testkit.Check(t, err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return l.Addr().String()
}

// dial is a connection that has been answered once: with TLS 1.3 a client
// hears of a refusal only then.
func dial(t *testing.T, addr string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := (&net.Dialer{Timeout: testkit.Patience}).DialContext(t.Context(), "tcp", addr)
	testkit.Check(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	testkit.Check(t, raw.SetDeadline(time.Now().Add(testkit.Patience)))
	if config.ServerName == "" {
		config.ServerName = "127.0.0.1"
	}
	c := tls.Client(raw, config)
	return c, say(c)
}

func say(c *tls.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func serial(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }

func TestReplacedFilesCountForNewConnectionsOnly(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	s, log := open(t, tlsfiles.Files{Cert: cert, Key: key})
	addr := echo(t, s)
	old, err := dial(t, addr, &tls.Config{RootCAs: ca.Pool()})
	testkit.Check(t, err)
	ca.Files("edge")
	var now *tls.Conn
	testkit.Eventually(t, "the new certificate", func() bool {
		now, err = dial(t, addr, &tls.Config{RootCAs: ca.Pool()})
		testkit.Check(t, err)
		return serial(now) != serial(old)
	})
	testkit.Check(t, say(old))
	if v := now.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("negotiated %s, want 1.3", tls.VersionName(v))
	}
	if !strings.Contains(log.String(), "TLS certificate replaced") {
		t.Errorf("logged %q", log)
	}
}

func TestBrokenFilesKeepWhatWasInUse(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	_, otherKey := ca.Files("other")
	s, log := open(t, tlsfiles.Files{Cert: cert, Key: key})
	addr := echo(t, s)
	good, err := os.ReadFile(key)
	testkit.Check(t, err)
	foreign, err := os.ReadFile(otherKey)
	testkit.Check(t, err)
	failures := s.Failures()
	for name, content := range map[string][]byte{"half a key": good[:len(good)/2], "another's key": foreign, "empty": nil} {
		testkit.Check(t, os.WriteFile(key, content, 0o600))
		testkit.Eventually(t, name+" was told", func() bool { return s.Failures() > failures || strings.Contains(log.String(), "mend the files") })
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: reloaded with %v, want an error that names the file", name, err)
		}
		_, err := dial(t, addr, &tls.Config{RootCAs: ca.Pool()})
		testkit.Check(t, err)
	}
	testkit.Check(t, os.Remove(key))
	if err := s.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	testkit.Check(t, os.WriteFile(key, good, 0o600))
	testkit.Check(t, s.Reload())
	ca.Files("edge")
	testkit.Check(t, s.Reload())
	for _, secret := range []string{string(good), string(foreign)} {
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); len(line) > 10 && !strings.HasPrefix(line, "-----") && strings.Contains(log.String(), line) {
				t.Error("a key is in the log")
			}
		}
	}
}

// A state of the files that lasts is told once.
func TestBrokenFilesAreToldOnce(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	s, err := tlsfiles.Open(tlsfiles.Options{Files: tlsfiles.Files{Cert: cert, Key: key}})
	testkit.Check(t, err)
	testkit.Check(t, os.WriteFile(key, nil, 0o600))
	for range 3 {
		if s.Reload() == nil {
			t.Fatal("an empty file was taken")
		}
	}
	if n := s.Failures(); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	s, _ := open(t, tlsfiles.Files{Cert: cert, Key: key})
	addr := echo(t, s)
	for version, want := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		_, err := dial(t, addr, &tls.Config{RootCAs: ca.Pool(), MinVersion: version, MaxVersion: version})
		if ok := err == nil; ok != want {
			t.Errorf("%s: %v, want success %t", tls.VersionName(version), err, want)
		}
	}
}

func TestClientsShowCertificates(t *testing.T) {
	t.Parallel()
	ca, foreign := natstest.NewCA(t), natstest.NewCA(t)
	cert, key := ca.Files("edge")
	s, _ := open(t, tlsfiles.Files{Cert: cert, Key: key, ClientCA: ca.File})
	addr := echo(t, s)
	try := func(pairs ...tls.Certificate) error {
		_, err := dial(t, addr, &tls.Config{RootCAs: ca.Pool(), Certificates: pairs, ClientSessionCache: tls.NewLRUClientSessionCache(8)})
		return err
	}
	mine, theirs := ca.Pair("device"), foreign.Pair("device")
	testkit.Check(t, try(mine))
	if try() == nil {
		t.Error("a client without a certificate was let in")
	}
	if try(theirs) == nil {
		t.Error("a client with another's certificate was let in")
	}
	// The authority is replaced as the certificate is.
	text, err := os.ReadFile(foreign.File)
	testkit.Check(t, err)
	testkit.Check(t, os.WriteFile(ca.File, text, 0o600))
	testkit.Check(t, s.Reload())
	testkit.Check(t, try(theirs))
	if try(mine) == nil {
		t.Error("a client of the old authority was let in")
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	junk := filepath.Join(t.TempDir(), "junk")
	testkit.Check(t, os.WriteFile(junk, []byte("junk"), 0o600))
	for name, c := range map[string]struct {
		files tlsfiles.Files
		want  string
	}{
		"no key":            {tlsfiles.Files{Cert: cert}, "together"},
		"no certificate":    {tlsfiles.Files{ClientCA: ca.File}, "together"},
		"missing":           {tlsfiles.Files{Cert: cert, Key: junk + "x"}, junk + "x"},
		"no PEM":            {tlsfiles.Files{Cert: junk, Key: key}, junk},
		"swapped":           {tlsfiles.Files{Cert: key, Key: cert}, "want a certificate chain"},
		"no authority":      {tlsfiles.Files{Cert: cert, Key: key, ClientCA: junk}, junk},
		"key for authority": {tlsfiles.Files{Cert: cert, Key: key, ClientCA: key}, key},
	} {
		_, err := tlsfiles.Open(tlsfiles.Options{Files: c.files})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a word of %q", name, err, c.want)
		}
	}
}

func TestConfigOffersHTTP1Only(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	s, _ := open(t, tlsfiles.Files{Cert: cert, Key: key})
	c, err := dial(t, echo(t, s), &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"h2", "http/1.1"}})
	testkit.Check(t, err)
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("negotiated %q: a WebSocket could not be opened", p)
	}
}
