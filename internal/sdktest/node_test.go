package sdktest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

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
	port, err := localcluster.FreePort() // which nobody takes while it is down
	testkit.Check(t, err)
	h.startAt(fmt.Sprintf("ws://127.0.0.1:%d", port))
	return h
}

// startAt starts it at a URL.
func (h *home) startAt(url string) {
	h.t.Helper()
	h.node = nodetest.Start(h.t, node.Options{Data: h.dir, Listen: strings.TrimPrefix(url, "ws://")})
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

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// dial connects a device that closes with the test.
func dial(t *testing.T, url string, opts client.Options) *client.Client {
	t.Helper()
	opts.HandshakeTimeout = testkit.Patience
	c, err := client.Dial(testkit.Soon(t), url, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
