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
			if r.Quiet() < r.patience() {
				continue
			}
			reason = "nothing was heard for " + r.patience().String()
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

// reopen tries until it has a consumer or ctx ends.
func (r *Reader) reopen(ctx context.Context) *pull {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		p, err := r.again(ctx)
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

func (r *Reader) again(ctx context.Context) (*pull, error) {
	if err := r.checkEnd(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return r.open(ctx)
}

// drop deletes a consumer that is no longer read, without waiting: the server
// forgets it after its inactivity threshold anyway.
func (r *Reader) drop(consumer string) {
	_ = r.opts.Conn.Publish("$JS.API.CONSUMER.DELETE."+r.opts.Stream+"."+consumer, nil)
}
