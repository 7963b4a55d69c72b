package tlsfiles_test

import (
	"bytes"
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
	"github.com/rccs-io/rccs/internal/tlsfiles"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

const within = 30 * time.Second

// journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not happen within %s", what, within)
		}
	}
}

// open makes a store that looks often.
func open(t *testing.T, files tlsfiles.Files) (*tlsfiles.Store, *journal) {
	t.Helper()
	log := &journal{}
	s, err := tlsfiles.Open(tlsfiles.Options{
		Files: files, Name: "test", Poll: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	check(t, err)
	s.Start()
	t.Cleanup(func() { check(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s, log
}

// echo listens with TLS and sends back what comes.
func echo(t *testing.T, s *tlsfiles.Store) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Config())
	check(t, err)
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
	raw, err := (&net.Dialer{Timeout: within}).DialContext(t.Context(), "tcp", addr)
	check(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	check(t, raw.SetDeadline(time.Now().Add(within)))
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
	check(t, err)
	ca.Files("edge")
	var now *tls.Conn
	eventually(t, "the new certificate", func() bool {
		now, err = dial(t, addr, &tls.Config{RootCAs: ca.Pool()})
		check(t, err)
		return serial(now) != serial(old)
	})
	check(t, say(old))
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
	check(t, err)
	foreign, err := os.ReadFile(otherKey)
	check(t, err)
	failures := s.Failures()
	for name, content := range map[string][]byte{"half a key": good[:len(good)/2], "another's key": foreign, "empty": nil} {
		check(t, os.WriteFile(key, content, 0o600))
		eventually(t, name+" was told", func() bool { return s.Failures() > failures || strings.Contains(log.String(), "mend the files") })
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: reloaded with %v, want an error that names the file", name, err)
		}
		_, err := dial(t, addr, &tls.Config{RootCAs: ca.Pool()})
		check(t, err)
	}
	check(t, os.Remove(key))
	if err := s.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	check(t, os.WriteFile(key, good, 0o600))
	check(t, s.Reload())
	ca.Files("edge")
	check(t, s.Reload())
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
	check(t, err)
	check(t, os.WriteFile(key, nil, 0o600))
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
	check(t, try(mine))
	if try() == nil {
		t.Error("a client without a certificate was let in")
	}
	if try(theirs) == nil {
		t.Error("a client with another's certificate was let in")
	}
	// The authority is replaced as the certificate is.
	text, err := os.ReadFile(foreign.File)
	check(t, err)
	check(t, os.WriteFile(ca.File, text, 0o600))
	check(t, s.Reload())
	check(t, try(theirs))
	if try(mine) == nil {
		t.Error("a client of the old authority was let in")
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t)
	cert, key := ca.Files("edge")
	junk := filepath.Join(t.TempDir(), "junk")
	check(t, os.WriteFile(junk, []byte("junk"), 0o600))
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
	check(t, err)
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("negotiated %q: a WebSocket could not be opened", p)
	}
}
