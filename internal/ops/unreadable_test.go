package ops_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
)

// Whoever has the credential of a part can write into the record. What is no record
// hides none, and how an act ended is what was said of it first, behind it.
func TestWhatIsNoRecordHidesNoOther(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	subject := layout.Audit(audit.ActionRevoke)
	p.publish(subject, `{"action":"revoke","result":"refused","ends":2}`) // ahead of what it ends
	check(t, p.Act(t.Context(), audit.Record{Action: audit.ActionRevoke, Target: "alice"}, func() error { return nil }))
	for _, junk := range []string{`{"action":"revoke","result":"failed","why":"forged","ends":2}`, `{"action":7}`, `no JSON`, ``} {
		p.publish(subject, junk)
	}
	check(t, p.Audit(t.Context(), audit.Record{Action: audit.ActionPurge, Target: "bob"}))
	list, err := p.Audits(t.Context(), ops.AuditQuery{})
	check(t, err)
	last, _, err := p.LastAudits(t.Context(), ops.AuditQuery{}, 0)
	check(t, err)
	for way, records := range map[string][]audit.Record{"by time": list, "the newest first": last} {
		said := map[string]int{}
		for _, r := range records {
			said[strings.Join(strings.Fields(r.Action+" "+r.Target+" "+r.Result), " ")]++
		}
		if said["revoke alice done"] != 1 || said["purge bob done"] != 1 || said["unreadable failed"] != 3 {
			t.Errorf("%s: %v", way, said)
		}
	}
}

// An edge is the only one when all others drain.
func TestAnEdgeIsTheOnlyOneWhenTheOthersDrain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for name, lease := range map[string]string{"a": `{"name":"a"}`, "b": `{"name":"b"}`, "c": `{"name":"c","draining":true}`} {
		p.publish(layout.EdgeSubject(name), lease)
	}
	a, err := p.FindEdge(t.Context(), "a")
	check(t, err)
	check(t, p.OnlyEdge(t.Context(), &a))
	p.publish(layout.EdgeSubject("b"), `{"name":"b","draining":true}`)
	if err := p.OnlyEdge(t.Context(), &a); !errors.Is(err, ops.ErrOnlyEdge) || !strings.Contains(err.Error(), "those of a would have nowhere to go") {
		t.Errorf("told %v", err)
	}
	p.publish(layout.EdgeSubject("d"), `{"name":"d"}`)
	check(t, p.OnlyEdge(t.Context(), &a))
}

// What is no lease hides no edge.
func TestWhatIsNoLeaseHidesNoEdge(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before, err := p.Edges(t.Context())
	check(t, err)
	for _, junk := range []string{`{"name":7}`, `no JSON`, `[]`} {
		p.publish(layout.EdgeSubject("junk"), junk)
		after, err := p.Edges(t.Context())
		if err != nil || len(after) != len(before) {
			t.Errorf("with a lease that is %s: %v, %v", junk, after, err)
		}
	}
}
