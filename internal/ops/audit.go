package ops

import (
	"context"
	"slices"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/layout"
)

// Audit stores a record of what is about to be done.
func (t *Tenant) Audit(ctx context.Context, r audit.Record) error { return audit.Write(ctx, t.js, r) }

// Act records an act, does it, and records how it ended.
func (t *Tenant) Act(ctx context.Context, r audit.Record, act func() error) error {
	return audit.Do(ctx, t.js, r, act)
}

// AuditQuery says which records to list.
type AuditQuery struct {
	// Since leaves out what is older.
	Since time.Time
	// Action, if set, is the only one listed.
	Action string
	// Limit keeps the last ones; 0: no bound.
	Limit int
}

// auditBatch is how many records one request asks for.
const auditBatch = 256

// Audits lists records, the oldest first.
func (t *Tenant) Audits(ctx context.Context, q AuditQuery) ([]audit.Record, error) {
	if _, err := t.info(ctx, layout.StreamAudit); err != nil {
		return nil, err
	}
	from, err := t.at(ctx, layout.StreamAudit, q.Since)
	if err != nil {
		return nil, err
	}
	var stored []audit.Record
	for {
		msgs, err := t.direct.Run(ctx, layout.StreamAudit, from, auditBatch)
		if err != nil {
			return nil, err
		}
		for i := range msgs {
			from = msgs[i].Seq + 1
			r := audit.Parse(msgs[i].Data, msgs[i].Seq, time.Unix(0, msgs[i].Time))
			if q.Action == "" || r.Action == q.Action {
				stored = append(stored, r)
			}
		}
		if len(msgs) == 0 {
			break
		}
	}
	list := audit.Merge(stored)
	if q.Limit > 0 && len(list) > q.Limit {
		list = list[len(list)-q.Limit:]
	}
	return list, nil
}

// LastAudits lists records below a sequence, the newest first; 0 begins with
// the newest of all. more reports whether there are others before them.
func (t *Tenant) LastAudits(ctx context.Context, q AuditQuery, below uint64) (list []audit.Record, more bool, err error) {
	info, err := t.info(ctx, layout.StreamAudit)
	if err != nil {
		return nil, false, err
	}
	first := max(info.State.FirstSeq, 1)
	if !q.Since.IsZero() {
		if first, err = t.at(ctx, layout.StreamAudit, q.Since); err != nil {
			return nil, false, err
		}
	}
	if below == 0 || below > info.State.LastSeq {
		below = info.State.LastSeq + 1
	}
	ends := make(map[uint64]audit.Record) // by the sequence of what has ended
	for upTo := min(below+auditBatch, info.State.LastSeq+1); upTo > first; {
		from := max(upTo-min(upTo, auditBatch), first)
		msgs, err := t.direct.Run(ctx, layout.StreamAudit, from, int(upTo-from)) //nolint:gosec // at most a batch
		if err != nil {
			return nil, false, err
		}
		for _, m := range slices.Backward(msgs) {
			if m.Seq >= upTo {
				continue
			}
			r := audit.Parse(m.Data, m.Seq, time.Unix(0, m.Time))
			if r.IsEnd() {
				ends[r.Ends] = r
				continue
			}
			if m.Seq >= below { // of the page before, whose ends may be of this one
				continue
			}
			if q.Action != "" && r.Action != q.Action {
				continue
			}
			if q.Limit > 0 && len(list) == q.Limit {
				return list, true, nil
			}
			stored := []audit.Record{r}
			if end, ok := ends[r.Seq]; ok {
				stored = append(stored, end)
			}
			list = append(list, audit.Merge(stored)...)
		}
		upTo = from
	}
	return list, false, nil
}
