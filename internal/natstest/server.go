package natstest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/testkit"
)

// MaxPayload is the largest message of the test server, the same as in
// nats.conf: a frame of 1 MiB and 64 KiB of headers.
const MaxPayload = 1<<20 + 64<<10

// startTimeout bounds the wait for a server to be ready, and for a connection to
// it. It is long only because machines that run tests are busy.
const startTimeout = testkit.Patience

var errDown = errors.New("natstest: the server is stopped")

// Option changes the server which [Server] starts.
type Option func(*settings)

type settings struct {
	listen    bool
	config    string
	configure []func(*server.Options)
}

// Listen also opens a port on the loopback interface, which stays the same
// after [Env.Restart]. Without it the server has no socket.
func Listen() Option { return func(s *settings) { s.listen = true } }

// Configure lets f change the server's options before every start.
func Configure(f func(*server.Options)) Option {
	return func(s *settings) { s.configure = append(s.configure, f) }
}

// Env is one server, across its stops and starts.
type Env struct {
	tb   testing.TB
	conf settings

	mu    sync.Mutex
	srv   *server.Server // nil while stopped
	dir   string         // changed by Kill
	port  int            // 0 until the first start of a listening server
	conns map[*conn]struct{}
}

// Server starts a server with JetStream, and stops it at the end of the test.
func Server(tb testing.TB, opts ...Option) *Env {
	tb.Helper()
	e := newEnv(tb, opts...)
	e.Start()
	return e
}

func newEnv(tb testing.TB, opts ...Option) *Env {
	tb.Helper()
	e := &Env{tb: tb, conns: make(map[*conn]struct{})}
	for _, opt := range opts {
		opt(&e.conf)
	}
	e.dir = tb.TempDir()
	tb.Cleanup(e.Stop) // after TempDir, so that the store is closed before it is removed
	return e
}

// Start starts a stopped server on the store that it left; it does nothing to
// a running one.
func (e *Env) Start() {
	e.tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv != nil {
		return
	}
	if err := e.startLocked(); err != nil {
		e.tb.Fatalf("natstest: start the server: %v", err)
	}
}

func (e *Env) startLocked() error {
	if e.conf.listen && e.port == 0 {
		var err error
		if e.port, err = localcluster.FreePort(); err != nil { // which nobody takes while the server is down
			return err
		}
	}
	o := e.optionsLocked()
	if err := configured(o, e.conf.config); err != nil {
		return err
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("options: %w", err)
	}
	fatal := make(fatalLog, 1)
	srv.SetLoggerV2(fatal, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	if err := awaitReady(srv, fatal, e.conf.listen); err != nil {
		srv.Shutdown()
		return err
	}
	if addr, ok := srv.Addr().(*net.TCPAddr); ok {
		e.port = addr.Port
	} else {
		<-started // nothing to accept, so Start returns
	}
	e.srv = srv
	return nil
}

func (e *Env) optionsLocked() *server.Options {
	o := &server.Options{
		ServerName: "natstest",
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		DontListen: !e.conf.listen,
		NoSigs:     true,
		NoLog:      true,
		JetStream:  true,
		StoreDir:   e.dir,
		MaxPayload: MaxPayload,
		// Two seconds by default, which a client on a busy machine may miss.
		AuthTimeout: startTimeout.Seconds(),
		// Given, so that the server does not reserve shares of this machine.
		JetStreamMaxMemory: 256 << 20,
		JetStreamMaxStore:  8 << 30,
	}
	if e.port != 0 {
		o.Port = e.port
	}
	for _, f := range e.conf.configure {
		f(o)
	}
	return o
}

// awaitReady returns when clients can connect. A listening server is asked in
// short turns, because ReadyForConnections sleeps 25 ms between two looks.
func awaitReady(srv *server.Server, fatal fatalLog, listen bool) error {
	turn := startTimeout
	if listen {
		turn = time.Millisecond
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if srv.ReadyForConnections(turn) {
			return nil
		}
		select {
		case msg := <-fatal:
			return errors.New(msg)
		default:
		}
	}
	return fmt.Errorf("not ready within %s", startTimeout)
}

// Stop shuts the server down cleanly and waits for it. Connections from
// [Env.Conn] begin to reconnect. It may be called more than once.
func (e *Env) Stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopLocked()
}

func (e *Env) stopLocked() {
	if e.srv == nil {
		return
	}
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
	e.srv = nil
}

// Restart is Stop and Start on the same store and, if there is one, port.
func (e *Env) Restart() {
	e.tb.Helper()
	e.Stop()
	e.Start()
}

// URL is where a server with [Listen] listens: nats://127.0.0.1:PORT. It ends
// the test when there is no listener.
func (e *Env) URL() string {
	e.tb.Helper()
	return "nats://" + e.Addr()
}

// Addr is the HOST:PORT of [Env.URL], the target of a [Proxy].
func (e *Env) Addr() string {
	e.tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.port == 0 {
		e.tb.Fatal("natstest: the server has no listener; start it with natstest.Listen()")
	}
	return fmt.Sprintf("127.0.0.1:%d", e.port)
}

// Conn connects in memory, and closes the connection at the end of the test.
// It reconnects for ever, every 10 ms, unless opts say otherwise.
func (e *Env) Conn(tb testing.TB, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return connect(tb, "", append([]nats.Option{nats.InProcessServer(e)}, opts...)...)
}

// Dialer returns what parts of RCCS take to open connections of their own.
func (e *Env) Dialer() func(opts ...nats.Option) (*nats.Conn, error) {
	return func(opts ...nats.Option) (*nats.Conn, error) {
		return Connect("", append([]nats.Option{nats.InProcessServer(e), nats.Timeout(startTimeout)}, opts...)...)
	}
}

// Dial is [Env.Conn] over TCP, to url: [Env.URL] or that of a [Proxy].
func Dial(tb testing.TB, url string, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	return connect(tb, url, opts...)
}

func connect(tb testing.TB, url string, opts ...nats.Option) *nats.Conn {
	tb.Helper()
	base := []nats.Option{
		nats.Name(tb.Name()),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(10 * time.Millisecond),
		nats.ReconnectJitter(0, 0),
		nats.Timeout(startTimeout),
	}
	nc, err := Connect(url, append(base, opts...)...)
	if err != nil {
		tb.Fatalf("natstest: connect: %v", err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Connect is [nats.Connect] for parts of RCCS that get their connections from a
// test. It tries again unless the server is stopped or refuses, because on a busy
// machine a handshake may take longer than a server waits.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(time.Millisecond) {
		nc, err := nats.Connect(url, opts...)
		if err == nil || errors.Is(err, errDown) || errors.Is(err, nats.ErrAuthorization) || time.Now().After(deadline) {
			return nc, err
		}
	}
}

// fatalLog keeps the first fatal message of a server, which says why it did
// not start, and drops all else.
type fatalLog chan string

func (l fatalLog) Fatalf(format string, v ...any) {
	select {
	case l <- fmt.Sprintf(format, v...):
	default:
	}
}

func (fatalLog) Noticef(string, ...any) {}
func (fatalLog) Warnf(string, ...any)   {}
func (fatalLog) Errorf(string, ...any)  {}
func (fatalLog) Debugf(string, ...any)  {}
func (fatalLog) Tracef(string, ...any)  {}
