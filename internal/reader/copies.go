package reader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/shard"
)

const (
	// copyTries bounds for each copy how often a consumer is made. The cluster
	// chooses the server of each: of three servers, one is chosen in none of 30
	// tries once in 190,000 times.
	copyTries = 10
	// copyTimeout bounds the reading of one copy, and wholeTimeout that of one whose
	// messages are not bounded.
	copyTimeout  = 5 * time.Second
	wholeTimeout = 30 * time.Second
	// copyPause follows a copy that could not be read.
	copyPause = 100 * time.Millisecond
)

// errWasRead means that the server of a consumer is one whose copy was read.
var errWasRead = errors.New("the copy of this server was read already")

// CopiesOptions say what to read of each copy of a stream.
type CopiesOptions struct {
	Conn   *nats.Conn
	Stream string
	// Shard says whose stream it is, if each shard has one of its own.
	Shard shard.Shard
	// Subject is literal. Messages up to After are left out, and those above UpTo,
	// if that is set.
	Subject     string
	After, UpTo uint64
	// HeadersOnly leaves the data out.
	HeadersOnly bool
	// Messages and Bytes bound what is read of one copy; 0: no bound.
	Messages, Bytes int
	// Enough is given what one copy has, and about how many more follow there. It
	// reports whether no other copy has to be read.
	Enough func(got []Entry, left int) bool
	// Logger gets one line if a reading has to be repaired; nil discards.
	Logger *slog.Logger
}

// Copies reads the same messages from one copy of a stream after another, each on
// another server, until Enough says so or all were read. One copy may be damaged, or
// lag behind. It is an error if not even most of the copies could be read: what was
// not found may still be stored.
func Copies(ctx context.Context, o CopiesOptions) error {
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return fmt.Errorf("reader: %w", err)
	}
	info, err := leader.Info(ctx, js, o.Shard.Stream(o.Stream))
	if err != nil {
		return fmt.Errorf("reader: copies of %s: %w", o.Stream, err)
	}
	c := &copies{CopiesOptions: o, replicas: max(info.Config.Replicas, 1)}
	var failed error
	for range copyTries * c.replicas {
		got, left, err := c.next(ctx)
		switch {
		case err == nil:
			if o.Enough(got, left) || len(c.read) >= c.replicas {
				return nil
			}
		case errors.Is(err, errWasRead):
		case ctx.Err() != nil:
			return err
		default: // the consumer's server is gone, or none is chosen
			failed = err
			select {
			case <-time.After(copyPause):
			case <-ctx.Done():
			}
		}
	}
	if len(c.read) <= c.replicas/2 {
		return fmt.Errorf("reader: %d of %d copies of %s could be read: %w", len(c.read), c.replicas, o.Stream, failed)
	}
	return nil
}

// copies is one reading of all copies.
type copies struct {
	CopiesOptions
	replicas int
	read     []string // the servers whose copies were read
}

// next reads the copy of a server that was not read yet. The error is errWasRead if
// the cluster has chosen another server.
func (c *copies) next(ctx context.Context) (got []Entry, left int, err error) {
	within := copyTimeout
	if c.Messages == 0 {
		within = wholeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	reading, enough := context.WithCancel(ctx)
	defer enough()
	bytes := 0
	var server string
	var r *Reader
	r, err = New(Options{
		Conn: c.Conn, Stream: c.Stream, Shard: c.Shard, FromStart: true, After: c.After, Filter: []string{c.Subject}, HeadersOnly: c.HeadersOnly,
		Batch: c.Messages, Logger: c.Logger,
		Handle: func(e Entry) {
			if reading.Err() != nil {
				return
			}
			if c.UpTo > 0 && e.Seq > c.UpTo {
				enough()
				return
			}
			got = append(got, e)
			if bytes += len(e.Data); c.Messages > 0 && len(got) >= c.Messages || c.Bytes > 0 && bytes >= c.Bytes {
				left = int(r.Behind()) //nolint:gosec // a count of messages
				enough()
			}
		},
		accept: func(name string) bool {
			server = name
			return !slices.Contains(c.read, name)
		},
	})
	if err != nil {
		return nil, 0, err
	}
	if err := r.Start(reading); err != nil && (reading.Err() == nil || ctx.Err() != nil) { // not because it is enough
		return nil, 0, err
	}
	if err := r.Stop(ctx); err != nil {
		return nil, 0, err
	}
	c.read = append(c.read, server)
	return got, left, nil
}
