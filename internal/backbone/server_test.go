package backbone_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestServerKeepsMessagesOverRestart(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), t.TempDir()
	user, _ := trust.user(t)
	s := start(t, trust.options(dir))
	nc := dial(t, s, user)
	js := jetStream(t, nc)
	if err := backbone.Ensure(t.Context(), js, backbone.Plan{}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		_, err := js.Publish(t.Context(), "rccs.inbox.alice.phone.normal", fmt.Append(nil, i))
		must(t, i, err)
	}
	if err := s.Healthy(); err != nil {
		t.Fatalf("healthy: %v", err)
	}
	nc.Close()
	stop(t, s)
	if err := s.Healthy(); !errors.Is(err, backbone.ErrNotRunning) {
		t.Fatalf("healthy after Stop: %v", err)
	}

	again := start(t, trust.options(dir))
	js = jetStream(t, dial(t, again, user))
	stream, err := js.Stream(t.Context(), "RCCS_INBOX")
	must(t, stream, err)
	if n := stream.CachedInfo().State.Msgs; n != 10 {
		t.Fatalf("%d messages after the restart, want 10", n)
	}
}

func TestServerListensForCredentialsOnly(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, _ := trust.user(t)
	opts := trust.options(t.TempDir())
	opts.Listen = "127.0.0.1:0"
	s := start(t, opts)
	if nc, err := nats.Connect(s.ClientURL(), patient); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Fatalf("connected without credentials: %v", err)
	}
	stranger, _ := newTrust(t).user(t)
	if nc, err := nats.Connect(s.ClientURL(), stranger, patient); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Fatalf("connected with another operator's credentials: %v", err)
	}
	nc, err := nats.Connect(s.ClientURL(), user, patient)
	must(t, nc, err)
	defer nc.Close()
	if n := nc.MaxPayload(); n != 1<<20+64<<10 {
		t.Errorf("max_payload is %d, want that of nats.conf", n)
	}
}

func TestServerWantsCredentialsInProcess(t *testing.T) {
	t.Parallel()
	s := start(t, newTrust(t).options(t.TempDir()))
	if nc, err := nats.Connect("", s.InProcess(), patient); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Fatalf("connected in process without credentials: %v", err)
	}
}

// The client is still writing when the server has read enough: neither may wait
// for the other until the write deadline.
func TestARefusedClientInProcessHearsWhy(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	s := start(t, trust.options(t.TempDir()))
	stranger, _ := newTrust(t).user(t)
	for range 20 {
		nc, err := nats.Connect("", s.InProcess(), stranger, patient)
		if err != nil && strings.Contains(err.Error(), "got 'PING'") {
			continue // this machine stalled, and the server asked whether anybody is there before it read on
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Fatalf("connected with another operator's credentials, or not told: %v", err)
		}
	}
	user, _ := trust.user(t)
	for range 20 {
		if err := dial(t, s, user).FlushTimeout(testkit.Patience); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerWithoutListenHasNoSocket(t *testing.T) {
	t.Parallel()
	opts := newTrust(t).options(t.TempDir())
	opts.Config = []byte("listen: 127.0.0.1:1\n") // must have no effect
	if url := start(t, opts).ClientURL(); url != "" {
		t.Fatalf("listens on %s", url)
	}
}

func TestStartSaysPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, l, err)
	defer l.Close()
	opts := newTrust(t).options(t.TempDir())
	opts.Listen = l.Addr().String()
	err = startError(t, opts)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), opts.Listen) {
		t.Fatalf("error %v does not say that %s is in use", err, opts.Listen)
	}
}

func TestStartRefusesDirectoryInUse(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), t.TempDir()
	first := start(t, trust.options(dir))
	if err := startError(t, trust.options(dir)); !errors.Is(err, backbone.ErrServed) {
		t.Fatalf("second server on %s: %v", dir, err)
	}
	if err := first.Healthy(); err != nil {
		t.Fatalf("the first server suffered: %v", err)
	}
}

func TestStartSaysWhichDirectoryCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if err := startError(t, newTrust(t).options(dir)); !strings.Contains(err.Error(), file) {
			t.Errorf("directory %s: error %v does not name it", dir, err)
		}
	}
}

// JetStream fails inside nats-server, where a stock one would end the process.
func TestStartHandsOverFatalErrors(t *testing.T) {
	t.Parallel()
	dir := private(t)
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := startError(t, newTrust(t).options(dir)); !strings.Contains(err.Error(), "JetStream") {
		t.Fatalf("error %v does not name JetStream", err)
	}
}

func startError(t *testing.T, opts backbone.Options) error {
	t.Helper()
	s, err := backbone.New(opts)
	must(t, s, err)
	defer stop(t, s)
	err = s.Start(t.Context())
	if err == nil {
		t.Fatal("the server started")
	}
	return err
}

func TestStartGivesUpWithContext(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), t.TempDir()
	s, err := backbone.New(trust.options(dir))
	must(t, s, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Start(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	stop(t, s)
	start(t, trust.options(dir)) // the directory is free again
}

func TestStopIsIdempotentAndBounded(t *testing.T) {
	t.Parallel()
	s := start(t, newTrust(t).options(t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("Stop with an ended context: %v", err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { stop(t, s) })
	}
	all.Wait()
	if err := s.Start(t.Context()); !errors.Is(err, backbone.ErrStarted) {
		t.Fatalf("Start after Stop: %v", err)
	}
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	s, err := backbone.New(newTrust(t).options(t.TempDir()))
	must(t, s, err)
	stop(t, s)
	if err := s.Start(t.Context()); !errors.Is(err, backbone.ErrStarted) {
		t.Fatalf("Start after Stop: %v", err)
	}
	if _, err := nats.Connect("", s.InProcess()); !errors.Is(err, backbone.ErrNotRunning) {
		t.Fatalf("connect: %v", err)
	}
}

// A connection outlives a stop, so that a part of RCCS sees a NATS outage, and
// no more.
func TestConnectionSeesOutage(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, _ := trust.user(t)
	s := start(t, trust.options(t.TempDir()))
	nc := dial(t, s, user, nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond))
	stop(t, s)
	until(t, "reconnecting", nc.IsReconnecting)
}

func TestHealthySeesLostStream(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), t.TempDir()
	user, _ := trust.user(t)
	s := start(t, trust.options(dir))
	js := jetStream(t, dial(t, s, user))
	if err := backbone.Ensure(t.Context(), js, backbone.Plan{}); err != nil {
		t.Fatal(err)
	}
	// What a start finds that could not recover a stream.
	lost := filepath.Join(dir, "jetstream", public(t, trust.tenant), "streams", "LOST")
	if err := os.Mkdir(lost, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("a stream that is perhaps being made: %v", err)
	}
	long := time.Now().Add(-time.Minute)
	if err := os.Chtimes(lost, long, long); err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "LOST") {
		t.Fatalf("healthy: %v", err)
	}
}

func TestLogGoesToSlogWithoutSecrets(t *testing.T) {
	t.Parallel()
	trust := newTrust(t)
	user, _ := trust.user(t)
	var out testkit.Log
	opts := trust.options(t.TempDir())
	opts.Config = append(opts.Config, "debug: true\ntrace: true\n"...)
	opts.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
	s := start(t, opts)
	nc := dial(t, s, user)
	_, err := jetStream(t, nc).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, 0, err)
	if err := nc.Publish("s", []byte("very private")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	text := out.String()
	if !strings.Contains(text, `"msg":"nats-server"`) || !strings.Contains(text, "Server is ready") {
		t.Errorf("nats-server's log did not arrive:\n%s", text)
	}
	for _, secret := range []string{"very private", "eyJ0eXAi", trust.tenantJWT} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// BenchmarkStart is from nothing to ready with all streams, as at the first
// `rccs serve`, and an orderly end.
func BenchmarkStart(b *testing.B) {
	trust := newTrust(b)
	user, _ := trust.user(b)
	for b.Loop() {
		opts := trust.options(b.TempDir())
		opts.Listen = "127.0.0.1:0"
		s := start(b, opts)
		nc := dial(b, s, user)
		if err := backbone.Ensure(b.Context(), jetStream(b, nc), backbone.Plan{}); err != nil {
			b.Fatal(err)
		}
		nc.Close()
		stop(b, s)
	}
}
