package ops

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/subjects"
)

// Audit stores a record of what is about to be done.
func (t *Tenant) Audit(ctx context.Context, r audit.Record) error { return audit.Write(ctx, t.js, r) }

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
func (t *Tenant) Audits(ctx context.Context, q AuditQuery) (list []audit.Record, err error) {
	if _, err := t.info(ctx, subjects.StreamAudit); err != nil {
		return nil, err
	}
	from, err := t.at(ctx, subjects.StreamAudit, q.Since)
	if err != nil {
		return nil, err
	}
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
			if q.Action != "" && r.Action != q.Action {
				continue
			}
			if list = append(list, r); q.Limit > 0 && len(list) > q.Limit {
				list = list[1:]
			}
		}
		if len(msgs) == 0 {
			return list, nil
		}
	}
}
