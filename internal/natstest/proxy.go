package natstest

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy on the loopback interface, which breaks the connections
// that run through it. A new one forwards.
type Proxy struct {
	targets  []string
	listener net.Listener
	wg       sync.WaitGroup // the accept loop and all pumps

	mu     sync.Mutex
	links  map[*link]struct{}
	refuse bool          // close new connections at once
	gate   chan struct{} // closed while bytes may pass
	closed bool
}

// link is one client's connection and its twin to the target.
type link struct {
	client, target net.Conn
	done           chan struct{} // closed with the link
	once           sync.Once
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		_ = l.client.Close()
		_ = l.target.Close()
	})
}

// NewProxy starts a proxy to targets, HOST:PORT ([Env.Addr]), and ends it with
// the test. Of several targets, a connection goes to one that accepts, at random.
func NewProxy(tb testing.TB, targets ...string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("natstest: proxy: %v", err)
	}
	p := &Proxy{targets: targets, listener: listener, links: make(map[*link]struct{}), gate: make(chan struct{})}
	close(p.gate)
	p.wg.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Addr is where the proxy listens, HOST:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is nats:// and [Proxy.Addr].
func (p *Proxy) URL() string { return "nats://" + p.Addr() }

// Drop closes all connections. New ones are forwarded.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked()
}

// Cut closes all connections, and new ones at once, until [Proxy.Heal].
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	p.dropLocked()
}

func (p *Proxy) dropLocked() {
	for l := range p.links {
		l.close()
		delete(p.links, l)
	}
}

// Freeze stops all bytes in both directions until [Proxy.Heal], as a network
// does that loses packets: connections stay open, new ones are accepted and
// silent. Nothing is lost; what was held passes after Heal.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate: // open
		p.gate = make(chan struct{})
	default:
	}
}

// Heal ends Cut and Freeze.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = false
	p.openLocked()
}

func (p *Proxy) openLocked() {
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// Links is how many connections run through the proxy.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close ends the proxy and all its connections, and waits for its goroutines.
// It may be called more than once.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.dropLocked()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	target := p.dial()
	if target == nil {
		_ = client.Close() // the target is down, and so is the way to it
		return
	}
	l := &link{client: client, target: target, done: make(chan struct{})}
	if !p.add(l) {
		l.close()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, target, client) })
	pumps.Go(func() { p.pump(l, client, target) })
	pumps.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// dial connects to a target that accepts; nil if none does.
func (p *Proxy) dial() net.Conn {
	for _, i := range rand.Perm(len(p.targets)) { //nolint:gosec // any order will do
		if c, err := net.DialTimeout("tcp", p.targets[i], startTimeout); err == nil {
			return c
		}
	}
	return nil
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// pump copies from src to dst until either ends, and holds what it has read
// while the proxy is frozen.
func (p *Proxy) pump(l *link, dst, src net.Conn) {
	defer l.close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			p.mu.Lock()
			gate := p.gate
			p.mu.Unlock()
			select {
			case <-gate:
			case <-l.done:
				return
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
