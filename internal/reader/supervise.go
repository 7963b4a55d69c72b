package reader

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

func (r *Reader) replace(reason string) {
	select {
	case r.restart <- reason:
	default: // one reason is enough
	}
}

// supervise keeps one consumer reading until ctx ends.
func (r *Reader) supervise(ctx context.Context, p *pull) {
	defer close(r.done)
	status := r.opts.Conn.StatusChanged(nats.CONNECTED)
	defer r.opts.Conn.RemoveStatusListener(status)
	tick := time.NewTicker(r.opts.Heartbeat)
	defer tick.Stop()
	wait := r.patience()
	for {
		reason := ""
		select {
		case <-ctx.Done():
			p.stop()
			r.drop(p.name)
			return
		case reason = <-r.restart:
		case <-r.quiet:
			r.askPending(ctx, p)
			continue
		case <-status:
			reason = "the connection was re-established"
		case <-tick.C:
			if p.heard() >= wait {
				wait = r.patience()
			}
			if r.Quiet() < wait {
				continue
			}
			reason = "nothing was heard for " + wait.String()
			wait = min(2*wait, maxPatience*r.patience())
		}
		p.stop()
		r.drop(p.name)
		if r.opts.Restarted != nil {
			r.opts.Restarted(reason)
		}
		r.opts.Logger.Warn("stream reader restarts", "stream", r.opts.Stream, "reason", reason, "last", r.last.Load())
		if p = r.reopen(ctx); p == nil {
			return
		}
		select { // what the old consumer complained of is history
		case <-r.restart:
		default:
		}
	}
}

// maxPatience times [Reader.patience] is how long a consumer may be silent that has
// replaced a silent one and was not heard for long itself. Whatever keeps consumers
// from speaking, such as a starved machine, more of them make it worse.
const maxPatience = 8

// reopen tries until it has a consumer or ctx ends. A server that is slow to make one
// gets more time with every other try.
func (r *Reader) reopen(ctx context.Context) *pull {
	tries := 0
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		p, err := r.again(ctx, againTimeout<<min(tries/2, 2))
		tries++
		switch {
		case err == nil:
			return p
		case errors.Is(err, ErrCutBack):
			r.failed.Store(&err)
			r.opts.Logger.Error("stream reader has stopped for good", "stream", r.opts.Stream, "err", err)
			return nil
		}
		if ctx.Err() == nil {
			r.opts.Logger.Warn("stream reader cannot restart yet", "stream", r.opts.Stream, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// againTimeout bounds the first tries to make another consumer.
const againTimeout = 2 * time.Second

func (r *Reader) again(ctx context.Context, within time.Duration) (*pull, error) {
	if err := r.checkEnd(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return r.open(ctx)
}

// drop deletes a consumer that is no longer read, without waiting: the server
// forgets it after its inactivity threshold anyway.
func (r *Reader) drop(consumer string) {
	_ = r.opts.Conn.Publish("$JS.API.CONSUMER.DELETE."+r.opts.Stream+"."+consumer, nil)
}
