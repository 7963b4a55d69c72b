package ops_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
)

// manyMessages is how many messages each of manyDevices has.
const manyMessages = 10

// crowd registers devices, each with a session and a cursor; the even ones
// have acknowledged everything.
func (p *place) crowd(devices int) {
	p.t.Helper()
	now := time.Now().UTC().Format(time.RFC3339)
	p.flood(func(put func(*nats.Msg)) {
		for d := range devices {
			k, kind, status := numbered(d).Key(), "mobile", "offline"
			if d%10 == 0 {
				kind, status = "desktop", "online"
			}
			put(&nats.Msg{Subject: layout.DeviceSubject(k), Data: fmt.Appendf(nil, `{"type":%q,"platform":"p","registered":%q}`, kind, now)})
			put(&nats.Msg{Subject: layout.SessionSubject(k), Data: fmt.Appendf(nil,
				`{"session":"s%d","edge":"e1","epoch":1,"since":%q,"status":%q,"lastSeen":%q}`, d, now, status, now)})
			if d%2 == 0 {
				last := uint64(devices * manyMessages)
				c := inbox.Cursor{Sent: [4]uint64{last, last, last, last}}
				put(&nats.Msg{Subject: layout.Cursor(k), Data: c.Append(nil)})
			}
		}
	})
	p.lease(roster.Edge{ID: "e1", Name: "one"})
}

// question is one that an operator asks, and how many things the answer has.
type question struct {
	what string
	ask  func(ctx context.Context) int
	want int
}

// questions are asked of manyDevices that have manyMessages each.
func (p *place) questions() []question {
	t := p.t
	p.fill(manyDevices, manyMessages)
	p.crowd(manyDevices)
	devices := func(q ops.DeviceQuery) func(ctx context.Context) int {
		return func(ctx context.Context) int {
			list, _, err := p.Devices(ctx, q)
			check(t, err)
			return len(list)
		}
	}
	inboxes := func(q ops.InboxQuery) func(ctx context.Context) int {
		return func(ctx context.Context) int {
			list, _, err := p.Inboxes(ctx, q)
			check(t, err)
			return len(list)
		}
	}
	return []question{
		{"a page of devices", devices(ops.DeviceQuery{Limit: 100, After: numbered(1000)}), 100},
		{"the devices of a user", devices(ops.DeviceQuery{User: "u77"}), 10},
		{"all devices", devices(ops.DeviceQuery{}), manyDevices},
		{"all that are online", devices(ops.DeviceQuery{Online: true, Type: "desktop"}), manyDevices / 10},
		{"a page of inboxes", inboxes(ops.InboxQuery{Limit: 100, After: numbered(1000)}), 100},
		{"inboxes that are behind", inboxes(ops.InboxQuery{Order: ops.ByUnacknowledged, Unacknowledged: true}), manyDevices / 2},
		{"what one device missed", func(context.Context) int { return len(p.missed(numbered(1777))) }, manyMessages},
		{"what another one missed", func(context.Context) int { return len(p.missed(numbered(1778))) }, 0},
		{"an inbox", func(ctx context.Context) int {
			i, err := p.Inbox(ctx, numbered(1777))
			check(t, err)
			return int(i.Unacknowledged)
		}, manyMessages},
		{"a trace among all", func(ctx context.Context) int {
			got, err := p.Trace(ctx, ops.TraceOptions{ID: "m1777-5"})
			check(t, err)
			return len(got.Copies)
		}, 1},
		{"a trace within a user", func(ctx context.Context) int {
			got, err := p.Trace(ctx, ops.TraceOptions{ID: "m1777-5", Scope: subjects.Scope{User: "u177"}})
			check(t, err)
			return len(got.Copies)
		}, 1},
		{"status", func(ctx context.Context) int {
			got, err := p.Status(ctx, ops.StatusOptions{Behind: 5})
			check(t, err)
			return got.Devices
		}, manyDevices},
		{"doctor", func(context.Context) int { return min(len(p.examine()), 1) }, 1},
		{"a replay", func(ctx context.Context) int {
			got, err := p.Replay(ctx, ops.ReplayOptions{From: numbered(1777), Since: time.Now().Add(-time.Hour)})
			check(t, err)
			return got.Copied
		}, manyMessages},
	}
}

func TestOperationsWithManyDevices(t *testing.T) {
	need.Long(t, "it stores thousands of devices with their inboxes")
	for _, q := range newPlace(t).questions() {
		if got := q.ask(t.Context()); got != q.want {
			t.Errorf("%s: %d, want %d", q.what, got, q.want)
		}
	}
}

// BenchmarkOperations: what concerns one device or one page takes no longer
// than with few devices, and what concerns all of them takes seconds at most.
func BenchmarkOperations(b *testing.B) {
	for _, q := range newPlace(b).questions() {
		b.Run(q.what, func(b *testing.B) {
			for b.Loop() {
				q.ask(b.Context())
			}
		})
	}
}
