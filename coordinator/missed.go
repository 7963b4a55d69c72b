package coordinator

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/timespec"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// missed answers {"user","device","from"?,"limit"?} with
// [{"seq","lane","id","type","timestamp","from","stored","bytes"}]: the stored
// messages that are not acknowledged, from the sequence "from" on, by sequence.
// limit is 1,000 at most and by default. A caller that gets as many as limit asks
// again from the last seq + 1.
func (c *Coordinator) missed(ctx context.Context, req *request) (any, *wire.Error) {
	var q struct {
		deviceName
		From  uint64 `json:"from"`
		Limit int    `json:"limit"`
	}
	if werr := req.decode(&q); werr != nil {
		return nil, werr
	}
	a, werr := q.address()
	if werr != nil {
		return nil, werr
	}
	if err := audit.Write(ctx, c.js, c.byService(req, audit.ActionRead, a, "missed")); err != nil {
		return nil, c.wireError("record not stored", err)
	}
	limit := min(cmp.Or(max(q.Limit, 0), pageMost), pageMost)
	list := make([]*ops.Message, 0, min(limit, pageDefault))
	for m, err := range c.ops.Missed(ctx, a) {
		if err != nil {
			return nil, c.wireError("missed messages not read", err)
		}
		if m.Seq < q.From {
			continue
		}
		list = append(list, m.Summary())
		if len(list) == limit {
			break
		}
	}
	return list, nil
}

// replay answers {"user","device","to"?, and one of "since","fromSeq","id",
// "missed", "dryRun"?} with {"run","copied","skipped","first"?,"last"?,"dryRun"?}
// when all copies are stored. since is a duration back or RFC 3339. to is the
// device that gets the copies, as USER/DEVICE; by default it is the same one.
func (c *Coordinator) replay(ctx context.Context, req *request) (any, *wire.Error) {
	var q struct {
		deviceName
		To      string `json:"to"`
		Since   string `json:"since"`
		FromSeq uint64 `json:"fromSeq"`
		ID      string `json:"id"`
		Missed  bool   `json:"missed"`
		DryRun  bool   `json:"dryRun"`
	}
	if werr := req.decode(&q); werr != nil {
		return nil, werr
	}
	from, werr := q.address()
	if werr != nil {
		return nil, werr
	}
	since, werr := sinceOf(q.Since)
	if werr != nil {
		return nil, werr
	}
	opts := ops.ReplayOptions{From: from, Since: since, FromSeq: q.FromSeq, ID: q.ID, Missed: q.Missed, DryRun: q.DryRun}
	if q.To != "" {
		to, err := subjects.ParseAddress(q.To)
		if err != nil {
			return nil, wire.NewError(wire.BadMessage, `"to" is not USER/DEVICE: `+err.Error())
		}
		if to.User != from.User {
			return nil, c.refused(ctx, req, audit.ActionReplay, from, "to "+q.To, wire.PermissionDenied, `"to" is another user's device: a service replays to devices of the same user, an operator with rccs replay to any`)
		}
		opts.To = to
	}
	if one := btoi(q.Since != "") + btoi(q.FromSeq > 0) + btoi(q.ID != "") + btoi(q.Missed); one != 1 {
		return nil, wire.NewError(wire.BadMessage, `give one of "since", "fromSeq", "id" and "missed"`)
	}
	var done ops.Replayed
	err := audit.Do(ctx, c.js, c.byService(req, audit.ActionReplay, from, "to "+cmp.Or(q.To, from.String())), func() (err error) {
		done, err = c.ops.Replay(ctx, opts)
		return err
	})
	if err != nil {
		return nil, c.wireError("replay not finished", err)
	}
	return done, nil
}

// sinceOf reads a "since": a duration back, or a time in RFC 3339. "" is the zero
// time.
func sinceOf(text string) (time.Time, *wire.Error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := timespec.Since(text, time.Now())
	if err != nil {
		return at, wire.NewError(wire.BadMessage, `"since": want `+timespec.SinceForms)
	}
	return at, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wireError logs an error in full, and returns what the requester is told of it.
func (c *Coordinator) wireError(what string, err error) *wire.Error {
	var told *wire.Error
	switch {
	case errors.Is(err, ops.ErrUnknownDevice):
		return wire.NewError(wire.DeviceNotFound, "no such device: it never registered, and nothing is stored for it")
	case errors.As(err, &told):
		return told
	}
	c.log.Warn("request failed", "what", what, "err", err)
	return send.Unavailable()
}

// byService returns the audit record of a service's request.
func (c *Coordinator) byService(req *request, action string, a subjects.Address, detail string) audit.Record {
	return audit.Record{Action: action, Target: a.String(), Detail: detail, Who: req.service(), From: "coordinator " + c.opts.Name}
}

// refused keeps an audit record of a request that a service may not make, and
// returns the error that it is told.
func (c *Coordinator) refused(ctx context.Context, req *request, action string, a subjects.Address, detail string, code wire.Code, why string) *wire.Error {
	r := c.byService(req, action, a, detail)
	r.Result, r.Why = audit.ResultRefused, why
	if err := audit.Write(ctx, c.js, r); err != nil {
		c.log.Warn("record of a refusal not stored", "err", err)
	}
	return wire.NewError(code, why)
}
