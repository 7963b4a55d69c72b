package backbone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/storecheck"
)

// routesTimeout bounds the wait for listeners other than the clients', such as
// a cluster's, after nats-server has returned from its own start.
const routesTimeout = 5 * time.Second

// Errors of a [Server] in the wrong state. Test with errors.Is.
var (
	ErrStarted    = errors.New("backbone: the server was started before: make a new one")
	ErrNotRunning = errors.New("backbone: the server is not running")
)

// Server is an embedded nats-server. It is made by [New], and runs from one
// Start to one Stop.
type Server struct {
	opts     Options
	natsOpts *server.Options // nats-server's from Start on
	log      *slog.Logger

	started  atomic.Bool
	launched chan struct{} // closed when nats-server's Start has returned, or never will be called
	stopped  chan struct{} // closed when the server is down and the directory free
	stop     sync.Once

	mu       sync.Mutex // guards what follows, and makes account updates one at a time
	srv      *server.Server
	resolver *server.DirAccResolver
	lock     *dirLock
}

// New checks opts and reads the nats.conf. Nothing is started or written. An
// error names the field of opts, or the line of the file, that is wrong.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	natsOpts, ignored, err := opts.parse()
	if err != nil {
		return nil, err
	}
	if len(ignored) > 0 {
		opts.Logger.Warn("settings of nats.conf have no effect, rccs sets them itself", "settings", ignored)
	}
	if open := openListeners(natsOpts); len(open) > 0 {
		opts.Logger.Warn("nats.conf opens listeners that ask nobody who he is: let only servers of the cluster reach them, or set"+
			" authorization or tls with verify there", "listeners", open)
	}
	return &Server{
		opts:     opts,
		natsOpts: natsOpts,
		log:      opts.Logger,
		launched: make(chan struct{}),
		stopped:  make(chan struct{}),
	}, nil
}

// Start returns when clients can connect and JetStream has recovered what is
// stored, which takes seconds with millions of messages after a kill. When ctx
// ends before, the server is given up. The error says why: the directory is in
// use by another process or cannot be written, the port is taken, or what
// nats-server itself gave as the reason. In a cluster JetStream answers only
// when a majority is up, which Start does not wait for; see [Server.Healthy].
func (s *Server) Start(ctx context.Context) error {
	if s.started.Swap(true) {
		return ErrStarted
	}
	fatal := &fatalError{}
	troubles := watchLog(&s.log)
	srv, err := s.prepare(fatal)
	if err != nil {
		close(s.launched)
		s.shutdown()
		return err
	}
	go func() {
		defer close(s.launched)
		srv.Start()
	}()
	select {
	case <-s.launched:
	case <-ctx.Done():
		go s.shutdown() // once the store is recovered; [Server.Stop] waits for it
		return fmt.Errorf("backbone: given up while starting: %w", context.Cause(ctx))
	}
	if err := ready(srv, fatal); err != nil {
		go s.shutdown()
		select {
		case <-s.stopped:
		case <-ctx.Done():
		}
		return err
	}
	s.tellRecovery(troubles)
	return nil
}

// prepare does what can fail early, cheapest first, so that a wrong port is
// told before a large store is recovered.
func (s *Server) prepare(fatal *fatalError) (*server.Server, error) {
	if err := checkListen(s.opts.Listen); err != nil {
		return nil, err
	}
	if err := openDir(s.opts.Dir); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock, err = lockDir(s.opts.Dir); err != nil {
		return nil, err
	}
	if err := checkKey(s.opts.Dir, s.natsOpts); err != nil {
		return nil, err
	}
	if err := checkStreams(s.opts.Dir, s.Clustered()); err != nil {
		return nil, err
	}
	if err := writeFormat(s.opts.Dir); err != nil {
		return nil, err
	}
	err = storecheck.Run(storecheck.Options{
		Dir: s.opts.Dir, Server: s.natsOpts.ServerName, Replicated: s.Clustered(), Logger: s.log,
		Keys: []string{s.natsOpts.JetStreamKey, s.natsOpts.JetStreamOldKey},
	})
	if err != nil {
		return nil, err
	}
	if s.resolver, err = openAccounts(s.opts); err != nil {
		return nil, err
	}
	s.natsOpts.AccountResolver = s.resolver
	srv, err := server.NewServer(s.natsOpts)
	if err != nil {
		return nil, fmt.Errorf("backbone: nats-server does not accept its configuration: %w", err)
	}
	srv.SetLoggerV2(&bridge{log: s.log, fatal: fatal}, debugEnabled(s.log), false, false)
	s.lock.open()
	s.srv = srv // Stop ends it from here on
	return srv, s.opts.loadAccounts(srv)
}

// checkListen says now, and precisely, that a port is taken, which
// nats-server would find only after it has recovered the store.
func checkListen(listen string) error {
	if listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("backbone: cannot listen for NATS clients: %w (choose another address with --nats-listen)", err)
	}
	return l.Close()
}

// ready finds out what nats-server's Start, which returns nothing, came to.
func ready(srv *server.Server, fatal *fatalError) error {
	if err := fatal.get(); err != nil {
		return fmt.Errorf("backbone: nats-server did not start: %w", err)
	}
	if !srv.ReadyForConnections(routesTimeout) {
		if err := fatal.get(); err != nil {
			return fmt.Errorf("backbone: nats-server did not start: %w", err)
		}
		return fmt.Errorf("backbone: nats-server was not ready %s after its start: see its log", routesTimeout)
	}
	if !srv.JetStreamEnabled() {
		return errors.New("backbone: JetStream is off although it was asked for: see the log of nats-server")
	}
	return nil
}

// Stop disconnects all clients, writes what is not on the disk yet, and lets
// go of the data directory. It returns an error when ctx ends before that,
// while the shutdown goes on. It may be called more than once, also after a
// failed Start or during one, and before any, after which the server cannot be
// started.
func (s *Server) Stop(ctx context.Context) error {
	if !s.started.Swap(true) {
		close(s.launched) // and never will be
	}
	go s.shutdown()
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("backbone: the server is still writing: %w", context.Cause(ctx))
	}
}

// shutdown runs once. It lets nats-server finish its start first: one that is
// shut down while it starts may go on starting.
func (s *Server) shutdown() {
	s.stop.Do(func() {
		<-s.launched
		s.mu.Lock()
		srv, resolver, lock := s.srv, s.resolver, s.lock
		s.mu.Unlock()
		switch {
		case srv != nil: // closes the resolver
			broken := s.Broken()
			srv.Shutdown()
			srv.WaitForShutdown()
			if broken == nil {
				if err := storecheck.Closed(s.opts.Dir); err != nil {
					s.log.Warn("the store is checked at the next start", "err", err)
				}
			}
		case resolver != nil:
			resolver.Close()
		}
		lock.release()
		close(s.stopped)
	})
}

// running is the nats-server, or nil before Start and after Stop.
func (s *Server) running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil || !s.srv.Running() {
		return nil
	}
	return s.srv
}

// ClientURL is where ordinary NATS clients connect, nats://HOST:PORT with the
// port that was really taken. It is empty when there is no listener or the
// server does not run.
func (s *Server) ClientURL() string {
	srv := s.running()
	if srv == nil || s.opts.Listen == "" {
		return ""
	}
	return srv.ClientURL()
}

// Clustered reports whether the nats.conf makes this one of several servers.
func (s *Server) Clustered() bool { return s.natsOpts.Cluster.Port != 0 }

// InProcess is the option that makes nats.Connect reach this server through
// memory instead of a socket. Credentials are needed as over the network.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(provider{s}) }

type provider struct{ s *Server }

func (p provider) InProcessConn() (net.Conn, error) {
	srv := p.s.running()
	if srv == nil {
		return nil, ErrNotRunning
	}
	conn, err := srv.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &pipe{Conn: conn}, nil
}
