package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rccs-io/rccs/internal/wsconn"
)

// Subprotocol is what a client offers to get the protocol's defaults.
const Subprotocol = "rccs.v1"

// Server accepts devices. It is an http.Handler for /v1/ws and /, and for the
// probes /healthz and /readyz.
type Server struct {
	opts    Options
	metrics *metrics
	origins *origins
	limiter *limiter
	sockets *wsconn.Upgrader

	// working has a place for each connection that is being upgraded or whose
	// credential is being checked. Both only compute, for some tenths of a
	// millisecond together. When thousands of devices come back at once, the
	// bound keeps processors free for other work.
	working chan struct{}

	quit  chan struct{}
	began time.Time       // what times of connections are counted from
	ctx   context.Context // for requests to the store; ends with the server
	cut   context.CancelFunc
	wg    sync.WaitGroup // the heartbeat loop and every connection

	heldBack heldBack // has a lock of its own

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	// Places: open connections, those without a credential, and open ones by
	// address; then sockets that are no WebSocket yet.
	open, unauthenticated int
	addresses             map[netip.Addr]int
	arriving              map[net.Conn]netip.Addr
	arrivals              map[netip.Addr]int
	endDrain              context.CancelFunc // nil unless draining
	stopped               bool
}

// suspendAfter is how long a connection is silent before it has no read loop; 0 is
// wsconn's own default. Tests do not wait that long.
var suspendAfter time.Duration

// New checks the options and makes a server. Start begins to serve.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	allowed, err := newOrigins(opts.Origins)
	if err != nil {
		return nil, err
	}
	ctx, cut := context.WithCancel(context.Background())
	s := &Server{
		opts:    opts,
		began:   time.Now(),
		ctx:     ctx,
		cut:     cut,
		metrics: newMetrics(opts.Metrics),
		origins: allowed,
		quit:    make(chan struct{}),

		working: make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),

		conns: make(map[*conn]struct{}),

		addresses: make(map[netip.Addr]int),
		arriving:  make(map[net.Conn]netip.Addr),
		arrivals:  make(map[netip.Addr]int),
		sockets: wsconn.NewUpgrader(wsconn.Options{
			Subprotocols: []string{Subprotocol}, WriteTimeout: opts.WriteTimeout, CloseTimeout: opts.CloseTimeout,
			Limit: min(opts.MaxMessageBytes, opts.MaxRegisterBytes), SuspendAfter: suspendAfter,
		}),
	}
	s.limiter = newLimiter(&opts.Limits, opts.MaxMessageBytes, func(scope string) { s.metrics.limited.WithLabelValues(scope).Inc() })
	s.metrics.watchUnauthenticated(opts.Metrics, s.unauthenticatedNow)
	return s, nil
}

// Start runs the heartbeat loop. It does not block.
func (s *Server) Start() {
	if err := s.sockets.Start(); err != nil {
		s.opts.Logger.Warn("idle connections will cost more memory", "err", err)
	}
	s.wg.Go(s.heartbeatLoop)
}

// Connections is how many connections are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// ServeHTTP implements http.Handler: it upgrades the request to a device's
// connection and returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.probe(w, r) {
		return
	}
	if r.URL.Path != "/v1/ws" && r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket endpoint: connect to ws://"+r.Host+"/v1/ws with subprotocol "+Subprotocol, http.StatusUpgradeRequired)
		return
	}
	from := s.address(r)
	if no := s.admit(r, from); no != nil {
		s.refuse(w, no)
		return
	}
	c := newConn(s, bearer(r))
	s.working <- struct{}{}
	sock, err := s.sockets.Upgrade(w, r, c)
	<-s.working
	if err != nil {
		s.opts.Logger.Debug("upgrade refused", "remote", r.RemoteAddr, "err", err) // Upgrade has answered
		s.releaseSlot(from, false)
		return
	}
	c.sock, c.from = sock, from
	if !s.add(c) {
		s.releaseSlot(from, false)
		sock.Abort()
		return
	}
	c.contained(c.sendChallenge) // here, for the stack: see onOwnStack
	sock.Start()
}

// onClosed forgets a connection that has ended.
func (s *Server) onClosed(c *conn) {
	s.remove(c)
	s.releaseSlot(c.from, c.authenticated)
	s.wg.Done()
}

// tokenProtocol is the prefix of the subprotocol in which a web page offers its
// token, because a browser lets it set no header. It is never agreed on, so never
// echoed.
const tokenProtocol = "rccs.token." //nolint:gosec // it is the prefix of a token, and no token

// bearer returns the token of the Authorization header, or the one that is
// offered as a subprotocol; empty if there is none.
func bearer(r *http.Request) string {
	const scheme = "Bearer "
	h := r.Header.Get("Authorization")
	if len(h) > len(scheme) && http.CanonicalHeaderKey(h[:len(scheme)-1]) == scheme[:len(scheme)-1] && h[len(scheme)-1] == ' ' {
		return h[len(scheme):]
	}
	for _, offered := range websocket.Subprotocols(r) {
		if token, ok := strings.CutPrefix(offered, tokenProtocol); ok {
			return strings.Clone(token) // without the rest of the header
		}
	}
	return ""
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.metrics.connections.Inc()
	s.metrics.accepted.Inc()
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.metrics.connections.Dec()
}

func (s *Server) snapshot(dst []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		dst = append(dst, c)
	}
	return dst
}

// cutTimeout is how long connections that were cut may take to end.
const cutTimeout = time.Second

// Stop refuses new devices, lets every connection finish what it was sent, and
// closes it with 1001. It closes Options.DrainRate connections a second, or more
// if ctx would end before. It returns when all are gone or ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	s.stopped = true
	away, rate := s.beginLocked(), paceOf(ctx, len(s.conns), s.opts.DrainRate)
	s.mu.Unlock()
	s.sendAway(away, rate)
	close(s.quit)
	defer s.sockets.Stop()
	gone := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		s.cut()
		return nil
	case <-ctx.Done():
	}
	s.cut()
	for _, c := range s.snapshot(nil) {
		c.abandon()
	}
	select {
	case <-gone:
	case <-time.After(cutTimeout): // those that wait for the publisher end when that is stopped
	}
	return errors.New("edge: some connections did not end in time and were cut")
}
