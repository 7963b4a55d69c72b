package coordinator

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// verdict is what became of a message in a pass.
type verdict uint8

const (
	done    verdict = iota // out of the route stream
	waiting                // for a device to come online
	blocked                // what it needs is not certain yet: those behind have to wait as well
)

const (
	// routeTimeout bounds how long giving out one message may take.
	routeTimeout = 15 * time.Second
	// recheck is how old our knowledge of a message may be. An older one is
	// looked up before it is given out: another coordinator may have given it out
	// so long ago that the inbox stream no longer knows its id. It is half the
	// dedup window.
	recheck = time.Minute
	// noDevicePatience is how old a message must be before the router believes
	// that there is no device for it. A device that registered just before the
	// message was sent may not be known here yet.
	noDevicePatience = 2 * time.Second
	// noDevicePause is how often the router looks for one until then.
	noDevicePause = 50 * time.Millisecond
)

// routeMessage finds the devices for a message and stores it for them. After an
// error it has to be called again.
func (r *router) routeMessage(q *queue, m *routed, devices []roster.Device) (verdict, error) {
	ctx, cancel := context.WithTimeout(r.ctx, routeTimeout)
	defer cancel()
	now := time.Now()
	switch {
	case m.finished:
		return done, r.c.remove(ctx, r.stream, m.seq)
	case !m.ends.IsZero() && !now.Before(m.ends):
		return r.expire(ctx, m)
	}
	d, werr, err := r.decide(ctx, q, m, devices)
	switch {
	case err != nil:
		return blocked, err
	case werr != nil && m.acceptedByEdge:
		return waiting, nil // for a device that has yet to be registered
	case werr != nil && now.Sub(m.stored) < noDevicePatience:
		q.soon(now.Add(noDevicePause))
		return blocked, nil
	case werr != nil:
		return r.drop(ctx, m, werr)
	case d.Wait:
		return waiting, nil
	}
	if there, err := r.load(ctx, m); err != nil || !there {
		return done, err
	}
	return r.deliver(ctx, m, d.Targets, now)
}

// decide applies the routing table, with the task's device looked up.
func (r *router) decide(ctx context.Context, q *queue, m *routed, devices []roster.Device) (roster.Decision, *wire.Error, error) {
	if m.task != "" {
		return r.decideTask(ctx, q, m, devices)
	}
	d, werr := roster.Route(m.msg, devices)
	return d, werr, nil
}

// load makes sure that the body is here, and reports whether the message still
// has to be given out.
func (r *router) load(ctx context.Context, m *routed) (there bool, err error) {
	if m.kept && time.Since(m.read) < recheck {
		return true, nil
	}
	got, there, err := r.c.stored(ctx, layout.StreamRoute, m.seq)
	if err != nil {
		return false, err
	}
	if !there {
		r.release(m)
		r.c.metrics.routed.WithLabelValues(routedGone).Inc()
		return false, nil
	}
	m.read = time.Now()
	if !m.kept {
		r.held.Add(int64(len(got.Data)))
		m.body, m.kept = got.Data, true
	}
	return true, nil
}

// deliver stores the copies and removes the message from the route stream. The
// copies need no atomic batch, which would cost the inbox stream milliseconds.
// Until all are stored the message stays in the route stream, and whoever takes
// it up again stores the missing ones.
func (r *router) deliver(ctx context.Context, m *routed, targets []subjects.DeviceID, now time.Time) (verdict, error) {
	copies := m.copies(targets, now)
	span, asked := r.begin(m), time.Now()
	if span != nil {
		for _, c := range copies {
			c.Header[subjects.HeaderTrace] = []string{span.Place()}
		}
	}
	duplicates, err := r.c.storeEach(ctx, copies)
	if span != nil {
		stored := time.Now()
		span.Below(trace.Store, asked, stored)
		span.End(storeCode(err), stored)
	}
	switch {
	case err != nil && !storeerr.Passes(err):
		return r.refuse(ctx, m, err)
	case err != nil:
		return blocked, err
	}
	result := routedStored
	if duplicates > 0 {
		result = routedDuplicate
	}
	r.log.Debug("message routed", "id", m.id(), "user", m.user, "seq", m.seq, "targets", len(targets), "result", result)
	r.c.metrics.routed.WithLabelValues(result).Inc()
	m.finished = true
	return done, r.c.remove(ctx, r.stream, m.seq)
}

// expire ends a message that has found no device in time.
func (r *router) expire(ctx context.Context, m *routed) (verdict, error) {
	if err := r.tellExpired(ctx, m); err != nil {
		return blocked, err
	}
	r.recordEnd(m, trace.Expired)
	r.c.metrics.routed.WithLabelValues(routedExpired).Inc()
	m.finished = true
	return done, r.c.remove(ctx, r.stream, m.seq)
}

// drop ends a service's message for which there is no device.
func (r *router) drop(ctx context.Context, m *routed, why *wire.Error) (verdict, error) {
	reason := inbox.NoDevice
	if why.Code == wire.BadMessage {
		reason = inbox.BadSubject
	}
	if err := r.c.tellUnreachable(ctx, m.unroutable(reason)); err != nil {
		return blocked, err
	}
	r.recordEnd(m, why.Code)
	r.c.metrics.routed.WithLabelValues(routedNoDevice).Inc()
	m.finished = true
	return done, r.c.remove(ctx, r.stream, m.seq)
}

// refuse ends a message that the store will never take.
func (r *router) refuse(ctx context.Context, m *routed, why error) (verdict, error) {
	err := r.tellExpired(ctx, m)
	if err == nil && !m.acceptedByEdge {
		err = r.c.tellUnreachable(ctx, m.unroutable(inbox.TooLarge))
	}
	if err != nil {
		return blocked, err
	}
	r.log.Error("message refused by the store dropped", "user", m.user, "seq", m.seq, "id", m.id(), "err", why)
	r.c.metrics.routed.WithLabelValues(routedRefused).Inc()
	m.finished = true
	return done, r.c.remove(ctx, r.stream, m.seq)
}

// storeCode returns the code for an error of the store; "" for none.
func storeCode(err error) wire.Code {
	if err == nil {
		return ""
	}
	return send.StoreError(err).Code
}
