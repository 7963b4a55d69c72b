package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// While a cluster elects leaders a question may stay without an answer.
func TestAQuestionWithoutAnAnswerAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Server(t).Conn(t)
	if _, err := nc.Subscribe("lost.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "lost", jetstream.WithDefaultTimeout(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{within: time.Hour, log: slog.New(slog.DiscardHandler)}
	tries := 0
	err = w.until(t.Context(), waitsForServers, func(ctx context.Context) error {
		if tries++; tries == 3 {
			return nil
		}
		_, err := js.Stream(ctx, "ANY")
		return err
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// A stream has no leader for some seconds after its server died, and does not
// answer. Who waited for that answer would start long after it has one.
func TestAStreamWithoutALeaderIsSoonAskedForAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Server(t).Conn(t)
	_, err := nc.Subscribe("leaderless.STREAM.NAMES", func(m *nats.Msg) { _ = m.Respond([]byte(`{"streams":[]}`)) })
	testkit.Check(t, err)
	_, err = nc.Subscribe("leaderless.STREAM.INFO.>", func(*nats.Msg) {})
	testkit.Check(t, err)
	js, err := jetstream.NewWithAPIPrefix(nc, "leaderless")
	testkit.Check(t, err)
	within, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- haveStreams(within, js, 1) }()
	if err := testkit.Await(t, "the question is given up", asked); !waitsForServers(err) || within.Err() != nil {
		t.Errorf("%v: want what is asked again", err)
	}
}

func TestAStartThatWaitsTooLongSaysForWhat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		missing := errors.New("two of three servers")
		w := &waiter{within: time.Minute, log: slog.New(slog.DiscardHandler)}
		begin := time.Now()
		err := w.until(t.Context(), always, func(context.Context) error { return missing })
		if !errors.Is(err, missing) || time.Since(begin) != time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

// Somebody else's address does not become free because NATS servers come up.
func TestAnAddressInUseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	taken, err := listenForDevices(t.Context(), "127.0.0.1:0")
	testkit.Check(t, err)
	defer func() { _ = taken.Close() }()
	_, err = listenForDevices(t.Context(), taken.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || waitsForServers(err) {
		t.Errorf("an edge would wait for %v", err)
	}
}

// A server that has waited for seconds asks whether the client is alive, and only
// then answers that it is.
func TestAConnectionIsMadeThoughTheServerAsksFirst(t *testing.T) {
	t.Parallel()
	dialsTwice(t, func(c net.Conn) net.Conn { return &pingAfterInfo{Conn: c} })
}

// Or it has given up: this side finds a connection that is broken.
func TestAConnectionIsMadeThoughTheServerHasGivenUp(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.EPIPE, syscall.ECONNRESET} {
		dialsTwice(t, func(c net.Conn) net.Conn { return &broken{c, err} })
	}
}

// Or it has taken the connection, and does not answer in time.
func TestAConnectionIsMadeThoughTheServerIsSlowToAnswer(t *testing.T) {
	t.Parallel()
	dialsTwice(t, func(c net.Conn) net.Conn { return &silent{Conn: c} })
}

// dialsTwice fails the test unless the second connection serves, of which the first
// is replaced by another.
func dialsTwice(t *testing.T, first func(net.Conn) net.Conn) {
	t.Helper()
	srv := &starved{Env: natstest.Server(t), first: first}
	nc, err := connect(slog.New(slog.DiscardHandler), "", nats.InProcessServer(srv))
	testkit.Check(t, err)
	defer nc.Close()
	testkit.Check(t, nc.Flush())
	if srv.conns != 2 {
		t.Errorf("dialled %d times, want 2", srv.conns)
	}
}

// starved is a server whose first connection is changed.
type starved struct {
	*natstest.Env
	first func(net.Conn) net.Conn
	conns int
}

func (s *starved) InProcessConn() (net.Conn, error) {
	s.conns++
	c, err := s.Env.InProcessConn()
	if err == nil && s.conns == 1 {
		c = s.first(c)
	}
	return c, err
}

// broken takes nothing.
type broken struct {
	net.Conn
	err error
}

func (c *broken) Write([]byte) (int, error) { return 0, &net.OpError{Op: "write", Err: c.err} }

// silent has nothing to read after the server's first line.
type silent struct {
	net.Conn
	info bool
}

func (c *silent) Read(p []byte) (int, error) {
	if c.info {
		return 0, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	}
	n, err := c.Conn.Read(p)
	c.info = bytes.HasSuffix(p[:n], []byte("\n"))
	return n, err
}

// pingAfterInfo has a PING right after the server's first line.
type pingAfterInfo struct {
	net.Conn
	info, asked bool
}

func (c *pingAfterInfo) Read(p []byte) (int, error) {
	if c.info && !c.asked {
		c.asked = true
		return copy(p, "PING\r\n"), nil
	}
	n, err := c.Conn.Read(p)
	c.info = c.info || bytes.HasSuffix(p[:n], []byte("\n"))
	return n, err
}

// What nats.go reports beside an answer stands in the log; by itself it would
// print it on standard error.
func TestWhatNATSReportsIsLogged(t *testing.T) {
	t.Parallel()
	var log testkit.Log
	nc, err := connect(log.Logger(slog.LevelInfo), "", nats.InProcessServer(natstest.Server(t)), nats.Name("rccs edge hub"))
	testkit.Check(t, err)
	defer nc.Close()
	release := make(chan struct{})
	defer close(release)
	sub, err := nc.Subscribe("slow", func(*nats.Msg) { <-release })
	testkit.Check(t, err)
	testkit.Check(t, sub.SetPendingLimits(1, -1))
	for range 3 {
		testkit.Check(t, nc.Publish("slow", nil))
	}
	testkit.Eventually(t, "the report is logged", func() bool { return log.Count("NATS reports an error") > 0 })
	for _, want := range []string{nats.ErrSlowConsumer.Error(), "rccs edge hub", "slow"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}
