package ops

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
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
	if _, err := t.info(ctx, subjects.StreamAudit); err != nil {
		return nil, err
	}
	from, err := t.at(ctx, subjects.StreamAudit, q.Since)
	if err != nil {
		return nil, err
	}
	var stored []audit.Record
	for {
		msgs, err := t.direct.Run(ctx, subjects.StreamAudit, from, auditBatch)
		if err != nil {
			return nil, err
		}
		for i := range msgs {
			from = msgs[i].Seq + 1
			r, err := audit.Parse(msgs[i].Data, msgs[i].Seq)
			if err != nil {
				return nil, err
			}
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
