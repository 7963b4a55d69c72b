package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// ClusterCopies is on how many servers of a cluster each message is.
const ClusterCopies = 3

// Waiting for the other servers of a cluster.
const (
	clusterLed = time.Second      // for a leader to answer
	clusterTry = 15 * time.Second // to make all streams, once there is a leader
	streamTry  = 2 * time.Second  // for one that is there to answer; without a leader it does not
)

// ensure creates or upgrades the tenant's streams, and stores its JWT there. In
// a cluster it waits until enough servers are there.
func (n *Node) ensure(ctx context.Context, dial dialer, keys *auth.Keystore) error {
	var patience []jetstream.JetStreamOpt
	if !n.server.Clustered() {
		// By itself the client gives a request 5 s, and a busy machine may take longer to
		// make a stream. In a cluster each try has a bound of its own.
		patience = append(patience, jetstream.WithDefaultTimeout(startTimeout))
	}
	js, nc, err := dial.jetStream("setup", patience...)
	if err != nil {
		return err
	}
	defer nc.Close()
	shares, err := n.reckon()
	if err != nil {
		return err
	}
	plan := backbone.Plan{Logger: n.opts.Logger, StoreBytes: shares[keys.Account().Name].server, Shards: keys.Shards()}
	once := func(ctx context.Context) error {
		limit, err := n.lifted(keys, func() error { return backbone.Ensure(ctx, js, plan) })
		if err != nil {
			return err
		}
		if limit != nil {
			n.opts.Logger.Warn("a tenant's limit does not hold", "tenant", keys.Account().Name, "err", limit)
		}
		if err := n.tellDamage(ctx, js, keys); err != nil {
			return err
		}
		return n.reconcileAccount(ctx, js, keys)
	}
	if !n.server.Clustered() {
		return once(ctx)
	}
	plan.Replicas = ClusterCopies
	if n.opts.Restoring {
		if err := n.awaitRestore(ctx, js, keys); err != nil {
			return err
		}
	}
	return awaitCluster(ctx, js, n.waiter(), once)
}

// errNotRestored says that a restore into the cluster is not done yet.
var errNotRestored = errors.New("the streams of a backup: 'rccs restore FILE --cluster' brings them (--restoring)")

// awaitRestore returns when a restore into the cluster is done. It comes to an
// end with the first shard of the default tenant, so that the others wait for
// nothing.
func (n *Node) awaitRestore(ctx context.Context, js jetstream.JetStream, keys *auth.Keystore) error {
	js = shard.At(0, keys.Shards()).JetStream(js)
	return awaitCluster(ctx, js, n.waiter(), func(ctx context.Context) error {
		inbox, err := js.Stream(ctx, layout.StreamInbox)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return errNotRestored
		case err != nil:
			return err
		case !epoch.Restored(inbox.CachedInfo()):
			return errNotRestored
		}
		return nil
	})
}

// awaitStreams returns when the servers are there, and the streams of the tenant
// answer, which other processes make.
func awaitStreams(ctx context.Context, dial dialer, shards int, w *waiter) error {
	var nc *nats.Conn
	var js jetstream.JetStream
	err := w.until(ctx, unreachable, func(context.Context) (err error) {
		js, nc, err = dial.jetStream("setup")
		return err
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	return awaitCluster(ctx, js, w, func(ctx context.Context) error { return haveStreams(ctx, js, shards) })
}

// lookForStreams is [awaitStreams] that does not wait.
func lookForStreams(ctx context.Context, dial dialer, shards int) error {
	js, nc, err := dial.jetStream("setup")
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := led(ctx, js); err != nil {
		return err
	}
	try, cancel := context.WithTimeout(ctx, clusterTry)
	defer cancel()
	return haveStreams(try, js, shards)
}

// haveStreams reports which of a tenant's streams does not answer, or that there are
// those of another number of shards.
func haveStreams(ctx context.Context, js jetstream.JetStream, shards int) error {
	if err := shard.Ask(ctx, js, shards); err != nil {
		if _, ok := errors.AsType[*shard.CountError](err); ok {
			return fmt.Errorf("node: %w: make a new one ('rccs creds part')", err)
		}
		return err
	}
	for _, name := range backbone.StreamsOf(shards) {
		try, cancel := context.WithTimeout(ctx, streamTry)
		_, err := js.Stream(try, name)
		cancel()
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	return nil
}

// awaitCluster calls once until it does not fail for what may pass. Each call has
// a bound: while leaders change, an answer may never come.
func awaitCluster(ctx context.Context, js jetstream.JetStream, w *waiter, once func(context.Context) error) error {
	return w.until(ctx, waitsForCluster, func(ctx context.Context) error {
		if err := led(ctx, js); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, clusterTry)
		defer cancel()
		return once(try)
	})
}

// led asks whether JetStream has a leader, without which it does not answer.
func led(ctx context.Context, js jetstream.JetStream) error {
	try, cancel := context.WithTimeout(ctx, clusterLed)
	defer cancel()
	if _, err := js.AccountInfo(try); err != nil {
		return fmt.Errorf("node: JetStream does not answer: %w", err)
	}
	return nil
}

// waitsForCluster reports whether an error may pass when more servers are there.
func waitsForCluster(err error) bool {
	if errors.Is(err, errNotRestored) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) {
		return true
	}
	return storeerr.FewServers(err)
}

// waitsForServers reports whether an error of a part that starts may pass when
// servers are there, and have elected leaders.
func waitsForServers(err error) bool { return unreachable(err) || waitsForCluster(err) }
