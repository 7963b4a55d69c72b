package backup_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/nodetest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

var (
	check      = testkit.Check
	soon       = testkit.Soon
	eventually = testkit.Eventually
)

// home is `rccs serve` on a data directory.
type home struct {
	tb   testing.TB
	data string
	*node.Node
	nc *nats.Conn
	js jetstream.JetStream
}

func serve(tb testing.TB, data string) *home {
	tb.Helper()
	return serveWith(tb, node.Options{Data: data})
}

func serveWith(tb testing.TB, opts node.Options) *home {
	tb.Helper()
	opts.NATSListen = nodetest.AnyPort
	h := &home{tb: tb, data: opts.Data, Node: nodetest.Start(tb, opts)}
	var err error
	tb.Cleanup(h.stop)
	h.nc, err = h.dial()
	check(tb, err)
	h.js, err = jetstream.New(h.nc, jetstream.WithDefaultTimeout(testkit.Patience))
	check(tb, err)
	return h
}

func (h *home) stop() {
	if h.nc != nil {
		h.nc.Close()
	}
	check(h.tb, h.Stop(context.WithoutCancel(h.tb.Context())))
}

func (h *home) dial(opts ...nats.Option) (*nats.Conn, error) {
	cred, err := h.Keys().IssuePart("operator")
	check(h.tb, err)
	return node.Connect(h.NATSURL(), append(opts, cred.Option(), nats.CustomInboxPrefix(layout.PartReplyPrefix), nats.Timeout(testkit.Patience))...)
}

func (h *home) token(name string) string {
	h.tb.Helper()
	return nodetest.Token(h.tb, h.Node, name)
}

func (h *home) connect(token string) (*client.Client, error) {
	return client.Dial(soon(h.tb), fmt.Sprintf("ws://%s", h.Addr()), &client.Options{Token: token, NoReconnect: true})
}

// device connects until close, or the end of the test.
func (h *home) device(token string) *client.Client {
	h.tb.Helper()
	c, err := h.connect(token)
	check(h.tb, err)
	h.tb.Cleanup(func() { _ = c.Close() })
	return c
}

func (h *home) send(to, body string) uint64 {
	h.tb.Helper()
	address, err := subjects.ParseAddress(to)
	check(h.tb, err)
	ack, err := h.js.Publish(soon(h.tb), subjects.Inbox(address.Key(), subjects.Normal), []byte(body))
	check(h.tb, err)
	return ack.Sequence
}

func (h *home) inbox() jetstream.StreamState {
	h.tb.Helper()
	s, err := h.js.Stream(soon(h.tb), layout.StreamInbox)
	check(h.tb, err)
	info, err := s.Info(soon(h.tb))
	check(h.tb, err)
	return info.State
}

func (h *home) save(opts backup.SaveOptions) (string, *backup.Manifest) {
	h.tb.Helper()
	if opts.Out == "" {
		opts.Out = filepath.Join(h.tb.TempDir(), "backup.tar")
	}
	opts.Dial, opts.Data, opts.Version = h.dial, h.data, "test"
	path, m, err := backup.Save(soon(h.tb), opts)
	check(h.tb, err)
	return path, m
}

func open(path string) (*backup.File, error) { return backup.Open(path, func(int64, int64) {}) }

// restore makes a data directory, and says what was wrong with that.
func restore(tb testing.TB, path, data string, opts backup.RestoreOptions) error {
	tb.Helper()
	f, err := open(path)
	if err != nil {
		return err
	}
	opts.Dir, opts.Server.Config = data, rccs.DefaultConfig()
	return errors.Join(backup.Restore(soon(tb), f, opts), f.Close())
}

// restored is an installation from a backup.
func restored(tb testing.TB, path string) *home {
	tb.Helper()
	data := filepath.Join(tb.TempDir(), "new")
	check(tb, restore(tb, path, data, backup.RestoreOptions{Server: backbone.Options{}}))
	return serve(tb, data)
}

// receive reads what waits and is sent, by body.
func receive(tb testing.TB, c *client.Client, n int) []*client.Message {
	tb.Helper()
	var all []*client.Message
	for range n {
		m, err := c.Receive(soon(tb))
		check(tb, err)
		all = append(all, m)
	}
	return all
}
