package natstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/testkit"
)

// Cluster starts n servers that form one cluster, and stops them at the end of the
// test. It returns when JetStream answers.
func Cluster(tb testing.TB, n int) []*Env {
	tb.Helper()
	ports := freePorts(tb, n)
	all := make([]*Env, n)
	for i := range all {
		all[i] = newEnv(tb, Listen(), Configure(func(o *server.Options) {
			o.ServerName = fmt.Sprint("natstest-", i+1)
			o.Cluster = server.ClusterOpts{Name: "natstest", Host: "127.0.0.1", Port: ports[i]}
			for k, port := range ports {
				if k != i {
					o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
				}
			}
		}))
		all[i].Start()
	}
	js, err := jetstream.New(all[0].Conn(tb))
	testkit.Check(tb, err)
	const name = "EVERYWHERE"
	eventually(tb, "every server stores", func() bool {
		ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Replicas: n})
		return err == nil
	})
	eventually(tb, "the servers are empty again", func() bool { // one that has just become the leader may not answer
		ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Second)
		defer cancel()
		err := js.DeleteStream(ctx, name)
		return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
	})
	return all
}

// freePorts returns ports on which nobody listens now.
func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		ports[i], err = localcluster.FreePort()
		testkit.Check(tb, err)
	}
	return ports
}

// Name is the name of the server.
func (e *Env) Name() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.optionsLocked().ServerName
}

// Lead has the server become the leader of a stream of its cluster, and returns when
// every copy of the stream is up to date.
func (e *Env) Lead(js jetstream.JetStream, stream string) {
	e.tb.Helper()
	name := e.Name()
	eventually(e.tb, name+" leads "+stream, func() bool {
		ctx, cancel := context.WithTimeout(e.tb.Context(), 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil || s.CachedInfo().Cluster == nil || s.CachedInfo().Cluster.Leader == "" {
			return false
		}
		for _, r := range s.CachedInfo().Cluster.Replicas {
			if !r.Current || r.Offline {
				return false
			}
		}
		if s.CachedInfo().Cluster.Leader == name {
			return true
		}
		_, _ = js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, name))
		return false
	})
}

// Spoil stops the servers of a cluster, has each lack another message of a stream,
// whose body has the text, and starts them again. Further texts are for the servers
// in turn again. The first server becomes the leader.
func Spoil(tb testing.TB, js jetstream.JetStream, servers []*Env, stream string, texts ...string) {
	tb.Helper()
	servers[0].Lead(js, stream) // every copy is up to date
	for _, e := range servers {
		e.Stop()
	}
	for i, text := range texts {
		servers[i%len(servers)].Flip(stream, text)
	}
	for _, e := range servers {
		e.Start()
	}
	servers[0].Lead(js, stream)
}

// Flip changes the first byte of the first message of a stream with a body, in the
// files of the stopped server. A server that is started then looks at no message
// before somebody reads it.
func (e *Env) Flip(stream, body string) {
	e.tb.Helper()
	blocks, err := filepath.Glob(filepath.Join(e.StoreDir(), "jetstream", "*", "streams", stream, "msgs", "*.blk"))
	testkit.Check(e.tb, err)
	for _, path := range blocks {
		buf, err := os.ReadFile(path)
		testkit.Check(e.tb, err)
		if at := bytes.Index(buf, []byte(body)); at >= 0 {
			buf[at] ^= 1
			testkit.Check(e.tb, os.WriteFile(path, buf, 0o600)) //nolint:gosec // a path of this test's own store
			return
		}
	}
	e.tb.Fatalf("natstest: %q is in none of %q", body, blocks)
}

// clusterTimeout bounds the waits for servers of a cluster. It is long only because
// machines that run tests are busy.
const clusterTimeout = 2 * time.Minute

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(clusterTimeout); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("natstest: %s: not within %s", what, clusterTimeout)
		}
	}
}
