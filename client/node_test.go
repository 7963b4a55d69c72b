package client_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/subjects"
)

const anyPort = "127.0.0.1:0"

// startNode starts all of RCCS in this process.
func startNode(ctx context.Context, data, listen string) (*node.Node, error) {
	n, err := node.New(node.Options{Data: data, Listen: listen, Config: rccs.DefaultConfig()})
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

// example is the node of the example that runs: they run one after the other.
var example *node.Node

// exampleNode starts all of RCCS for an example. What fails shows in the
// example's output.
func exampleNode() (ctx context.Context, url string, stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	dir, err := os.MkdirTemp("", "rccs-example")
	if err == nil {
		example, err = startNode(ctx, filepath.Join(dir, "data"), anyPort)
	}
	if err != nil {
		return ctx, err.Error(), cancel
	}
	return ctx, nodeURL(example), func() {
		cancel()
		_ = example.Stop(context.WithoutCancel(ctx))
		_ = os.RemoveAll(dir)
	}
}

// exampleCredentials are what a program has from client.CredentialsFile.
func exampleCredentials(name string) client.Credentials {
	return nodeCredentials(example, name, time.Hour)
}

// exampleDevice connects a device of the example's node.
func exampleDevice(ctx context.Context, url, name string) *client.Client {
	c, err := client.Dial(ctx, url, &client.Options{Credentials: exampleCredentials(name)})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
	}
	return c
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
