// Package nodetest runs all of RCCS in the process of a test, and connects
// devices to it.
//
// Its functions end the test when they fail, so they are called from the test's
// own goroutine. It must not be imported by anything but tests; those of a leaf
// use [internal/testkit], which does not pull in a server.
package nodetest

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	rccs "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// AnyPort is a port of this machine that the system chooses.
const AnyPort = "127.0.0.1:0"

// Start starts a node and stops it at the end of the test. Without Data it gets
// a directory of its own, without Listen any port, without a configuration the
// one that RCCS comes with.
func Start(tb testing.TB, opts node.Options) *node.Node {
	tb.Helper()
	if opts.Data == "" {
		opts.Data = tb.TempDir()
	}
	if opts.Listen == "" {
		opts.Listen = AnyPort
	}
	if opts.ConfigPath == "" {
		opts.Config = rccs.DefaultConfig()
	}
	if opts.StopWithin == 0 {
		opts.StopWithin = testkit.Patience // machines under test are busy
	}
	n, err := node.New(opts)
	testkit.Check(tb, err)
	testkit.Check(tb, n.Start(tb.Context()))
	tb.Cleanup(func() {
		if err := n.Stop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	return n
}

// Token is a bearer token for USER/DEVICE, good for an hour.
func Token(tb testing.TB, n *node.Node, name string) string {
	tb.Helper()
	address, err := subjects.ParseAddress(name)
	testkit.Check(tb, err)
	cred, err := n.Keys().IssueDevice(address, auth.DeviceOptions{Bearer: true, Expires: time.Hour})
	testkit.Check(tb, err)
	return cred.JWT
}

// Registering is how a device registers.
type Registering struct {
	Token string
	Extra string      // of the payload, such as `,"type":"mobile"`
	TLS   *tls.Config // not nil: over TLS
}

// Register connects a device to an edge at HOST:PORT and returns when its
// registration is acknowledged. The connection is closed at the end of the test.
func Register(tb testing.TB, address string, r Registering) *devicetest.Device {
	tb.Helper()
	url := devicetest.URL(address)
	if r.TLS != nil {
		url = "wss" + strings.TrimPrefix(url, "ws")
	}
	d := devicetest.Connect(tb, url, devicetest.How{TLS: r.TLS})
	d.Register(r.Token, r.Extra)
	return d
}
