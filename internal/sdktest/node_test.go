package sdktest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

const anyPort = "127.0.0.1:0"

// startNode starts all of RCCS in this process.
func startNode(ctx context.Context, data, listen string) (*node.Node, error) {
	n, err := node.New(node.Options{Data: data, StopWithin: time.Minute, Listen: listen, Config: rccs.DefaultConfig()})
	if err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

func nodeURL(n *node.Node) string { return fmt.Sprintf("ws://%s", n.Addr()) }

// nodeCredentials makes credentials of a device as they are asked for.
func nodeCredentials(n *node.Node, name string, expires time.Duration) client.Credentials {
	return func(context.Context) (string, client.Signer, error) {
		address, err := subjects.ParseAddress(name)
		if err != nil {
			return "", nil, err
		}
		cred, err := n.Keys().IssueDevice(address, auth.DeviceOptions{Expires: expires})
		return cred.JWT, cred.Sign, err
	}
}

// home is a running node with connected devices.
type home struct {
	t    *testing.T
	dir  string
	node *node.Node
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir()}
	h.startAt("ws://" + anyPort)
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *home) startAt(url string) {
	h.t.Helper()
	n, err := startNode(h.t.Context(), h.dir, strings.TrimPrefix(url, "ws://"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.node = n
}

func (h *home) stop() {
	h.t.Helper()
	if err := h.node.Stop(context.WithoutCancel(h.t.Context())); err != nil {
		h.t.Error(err)
	}
}

func (h *home) device(name string, opts client.Options) *client.Client {
	h.t.Helper()
	opts.Credentials = nodeCredentials(h.node, name, time.Hour)
	return dial(h.t, nodeURL(h.node), opts)
}

// proxy is a network between devices and a node, which can be cut.
type proxy struct {
	url string

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, node string) *proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "ws://" + l.Addr().String()}
	var pipes sync.WaitGroup
	pipes.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			out, err := d.DialContext(context.WithoutCancel(t.Context()), "tcp", node)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
				pipes.Go(func() {
					_, _ = io.Copy(to, from)
					_, _ = from.Close(), to.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		pipes.Wait()
	})
	return p
}

// cut ends all connections without a word.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// dial connects a device that closes with the test.
func dial(t *testing.T, url string, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(testkit.Soon(t), url, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
