package load

import (
	"context"
	"sync/atomic"
	"time"
)

// pace calls send when each of the messages of a rate is due, with when it was
// due, until the time is over or something is wrong. It waits for nothing else,
// so that a server that stalls is seen in full.
func (r *run) pace(rate int, during time.Duration, send func(i int, at int64) error) error {
	gap := time.Second / time.Duration(rate)
	return r.paceUntil(nil, gap, int(during/gap), send)
}

// paceUntil is pace for a number of messages, or until stop is closed.
func (r *run) paceUntil(stop <-chan struct{}, gap time.Duration, total int, send func(i int, at int64) error) error {
	clock, err := newAlarm()
	if err != nil {
		return err
	}
	defer clock.close()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-stop:
		case <-r.ledger.broken: // finish says what
		case <-r.ctx.Done():
		case <-over:
			return
		}
		clock.stop()
	}()
	start := r.now()
	for i := 0; i < total; {
		select {
		case <-stop:
			return nil
		case <-r.ledger.broken:
			return nil
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		default:
		}
		due := start + int64(i)*int64(gap)
		if wait := due - r.now(); wait > 0 {
			if err := clock.wait(time.Duration(wait)); err != nil {
				return err
			}
			continue
		}
		if err := send(i, due); err != nil {
			return r.cause(err)
		}
		i++
	}
	return nil
}

// wait until the time is over or something is wrong.
func (r *run) wait(during time.Duration) error {
	timer := time.NewTimer(during)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ledger.broken:
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	return nil
}

// until shows a phase by its time.
func (r *run) until(name string, during time.Duration) {
	start := time.Now()
	r.step(name, func() (int, int) {
		return int(min(time.Since(start), during) / time.Millisecond), int(during / time.Millisecond)
	})
}

const (
	pollEvery = 2 * time.Millisecond
	// repeatWindow is how long messages that come again are waited for.
	repeatWindow = 250 * time.Millisecond
	// resolve is how long is waited for the others after something went wrong,
	// to tell what was lost from what was late.
	resolve = 2 * time.Second
)

// finish waits until all that was sent has arrived, and a little longer for
// what comes twice.
func (r *run) finish() error {
	r.step("waiting for the rest", func() (int, int) { return int(r.ledger.arrived.Load()), int(r.ledger.sent.Load()) }) //nolint:gosec // counts of messages
	if err := r.await(r.ledger.complete, &r.ledger.arrived); err != nil {
		return err
	}
	return r.wait(repeatWindow)
}

// await polls a condition until it holds, or what counts has not grown for as
// long as is waited.
func (r *run) await(done func() bool, counts *atomic.Uint64) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	quiet, before := time.Now(), counts.Load()
	for !done() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
		patience := r.opts.Patience
		select {
		case <-r.ledger.broken:
			patience = min(patience, resolve)
		default:
		}
		if n := counts.Load(); n != before {
			quiet, before = time.Now(), n
		} else if time.Since(quiet) > patience {
			return nil // the ledger knows what is missing
		}
	}
	return nil
}
