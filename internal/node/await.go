package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// A process waits at its start for what it needs and does not make itself: room
// on the disk, NATS servers, streams. /readyz and the log say for what.

const (
	awaitEvery = 250 * time.Millisecond
	awaitSay   = 10 * time.Second
)

// waiter waits at a start.
type waiter struct {
	within time.Duration // 0: no bound
	admin  *adminPart    // nil: nobody asks
	log    *slog.Logger
}

// until tries again until try does not fail for what passes by itself. It gives
// up when ctx ends or the bound is reached; the error says what was missing.
func (w *waiter) until(ctx context.Context, passes func(error) bool, try func(context.Context) error) error {
	// No deadline: nats.go would wait for a lost answer until then, and not for
	// its own five seconds.
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.within > 0 {
		defer time.AfterFunc(w.within, cancel).Stop()
	}
	defer w.admin.waitsFor("")
	var said time.Time
	var last error // why it waits; a try that the bound cut short does not know
	for {
		err := try(bounded)
		switch {
		case err == nil && !said.IsZero():
			w.log.Info("waits no longer at the start", "for", last)
			return nil
		case err == nil || ctx.Err() != nil:
			return err
		case bounded.Err() == nil:
			if last = err; !passes(err) {
				return err
			}
			w.admin.waitsFor(err.Error())
		}
		if last != nil && time.Since(said) > awaitSay {
			said = time.Now()
			w.log.Warn("waiting at the start", "for", last)
		}
		select {
		case <-time.After(awaitEvery):
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("node: given up after %s (--start-wait): %w", w.within, last)
		}
	}
}

// unreachable reports whether an error says that no NATS server is there yet. A
// proxy or a load balancer before it may accept a connection and end it. An
// address that the process itself cannot listen on is no such error.
func unreachable(err error) bool {
	var network net.Error
	var unknown *net.DNSError
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return false
	}
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF) ||
		errors.As(err, &network) || errors.As(err, &unknown)
}

// always is for what passes, whatever the error.
func always(error) bool { return true }
