package ops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// follow is a roster that only follows.
func (p *place) follow() *roster.Roster { return p.followShard(shard.Only) }

func (p *place) followShard(of shard.Shard) *roster.Roster {
	p.t.Helper()
	r, err := roster.New(roster.Options{Read: p.env.Conn(p.t), Shard: of, Put: func(*nats.Msg, func(uint64, error)) {}})
	check(p.t, err)
	check(p.t, r.Start(p.t.Context()))
	p.t.Cleanup(func() { _ = r.Stop(context.WithoutCancel(p.t.Context())) })
	return r
}

// populate registers four devices, two of which have sessions: the phone's is
// at an edge that is dead.
func (p *place) populate() {
	p.t.Helper()
	now := time.Now().UTC().Format(time.RFC3339)
	p.lease(roster.Edge{ID: "e0", Name: "zero"})
	for i, a := range []subjects.Address{desktop, phone, bob, {User: "carol", Device: "desktop"}} {
		p.register(a, fmt.Sprintf(`{"type":%q,"platform":"p","version":"1","capabilities":{"x":true},"registered":%q}`, []string{"desktop", "mobile"}[i%2], now))
		if i < 2 {
			p.publish(layout.SessionSubject(a.Key()),
				fmt.Sprintf(`{"session":"s%d","edge":"e%d","epoch":3,"since":%q,"status":"away","lastSeen":%q,"extra":{"note":"n"}}`, i, i, now, now))
		}
	}
}

// Commands read the store, the coordinator and the HTTP API their roster.
func TestDeviceLooksTheSameFromTheStoreAndFromARoster(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.populate()
	directory := ops.NewDirectory(p.follow())
	stored, more, err := p.Devices(t.Context(), ops.DeviceQuery{})
	check(t, err)
	known, moreKnown := directory.Devices(ops.DeviceQuery{})
	if len(stored) != 4 || more || moreKnown {
		t.Fatalf("stored are %d devices", len(stored))
	}
	want, err := json.Marshal(stored)
	check(t, err)
	got, err := json.Marshal(known)
	check(t, err)
	if string(got) != string(want) {
		t.Errorf("from the roster\n%s\nfrom the store\n%s", got, want)
	}
	if d := known[0]; d.Edge != "zero" || d.Status != "away" || d.Session != "s0" || d.Epoch != 3 || string(d.Extra) != `{"note":"n"}` {
		t.Errorf("the desktop is %+v", d)
	}
	if d := known[1]; d.Edge != "" || d.Status != "offline" || d.Session != "s1" {
		t.Errorf("the phone of a dead edge is %+v", d)
	}
}

// An edge has a lease, and so an id, in each shard, and is listed with one of them.
func TestDirectoryFindsTheDevicesOfAnEdgeInAllShards(t *testing.T) {
	t.Parallel()
	p := dividedPlace(t)
	var rosters []*roster.Roster
	users := map[int]string{}
	for i := 0; len(users) < 4; i++ {
		user := fmt.Sprint("user-", i)
		users[shard.Of(user, 4)] = user
	}
	for n, s := range shard.All(4) {
		k := subjects.Address{User: subjects.UserID(users[n]), Device: "phone"}.Key()
		p.publish(s.Subject(layout.DeviceSubject(k)), `{"type":"mobile"}`)
		p.publish(s.Subject(layout.SessionSubject(k)), fmt.Sprintf(`{"session":"s","edge":"e%d","epoch":1,"status":"online"}`, n))
		rosters = append(rosters, p.followShard(s))
	}
	for edge, want := range map[string]int{"e0": 4, "e3": 4, "one": 4, "f0": 0, "g": 0} {
		testkit.Eventually(t, fmt.Sprintf("%d devices are at the edge %s", want, edge), func() bool { // on a busy machine leases end
			for n, s := range shard.All(4) {
				p.publish(s.Subject(layout.EdgeSubject(fmt.Sprint("e", n))), `{"name":"one","process":"1"}`)
				p.publish(s.Subject(layout.EdgeSubject(fmt.Sprint("f", n))), `{"name":"one","process":"2"}`)
			}
			list, _ := ops.NewDirectory(rosters...).Devices(ops.DeviceQuery{Edge: edge})
			return len(list) == want
		})
	}
}

func TestDirectoryFilters(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.populate()
	directory := ops.NewDirectory(p.follow())
	for _, c := range []struct {
		q    ops.DeviceQuery
		want []string
		more bool
	}{
		{ops.DeviceQuery{}, []string{"alice/desktop", "alice/my.phone", "bob/phone", "carol/desktop"}, false},
		{ops.DeviceQuery{User: "alice"}, []string{"alice/desktop", "alice/my.phone"}, false},
		{ops.DeviceQuery{Status: "offline"}, []string{"alice/my.phone", "bob/phone", "carol/desktop"}, false},
		{ops.DeviceQuery{Online: true}, []string{"alice/desktop"}, false},
		{ops.DeviceQuery{Edge: "zero"}, []string{"alice/desktop"}, false},
		{ops.DeviceQuery{Edge: "e0"}, []string{"alice/desktop"}, false},
		{ops.DeviceQuery{Edge: "e1"}, nil, false},
		{ops.DeviceQuery{Type: "mobile"}, []string{"alice/my.phone", "carol/desktop"}, false},
		{ops.DeviceQuery{Text: "phone"}, []string{"alice/my.phone", "bob/phone"}, false},
		{ops.DeviceQuery{Text: "BOB/Ph"}, []string{"bob/phone"}, false},
		{ops.DeviceQuery{User: "alice", Text: "PHONE"}, []string{"alice/my.phone"}, false},
		{ops.DeviceQuery{Limit: 1, After: desktop}, []string{"alice/my.phone"}, true},
		{ops.DeviceQuery{Limit: 1, After: bob}, []string{"carol/desktop"}, false},
	} {
		list, more := directory.Devices(c.q)
		var got []string
		for _, d := range list {
			got = append(got, d.Address().String())
		}
		if !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("%+v: listed %q, more: %t; want %q, %t", c.q, got, more, c.want, c.more)
		}
	}
	for _, c := range []struct {
		q    ops.UserQuery
		want []ops.User
		more bool
	}{
		{ops.UserQuery{}, []ops.User{{"alice", 2, 1}, {"bob", 1, 0}, {"carol", 1, 0}}, false},
		{ops.UserQuery{Text: "o"}, []ops.User{{"bob", 1, 0}, {"carol", 1, 0}}, false},
		{ops.UserQuery{Text: "CAR"}, []ops.User{{"carol", 1, 0}}, false},
		{ops.UserQuery{Status: "away"}, []ops.User{{"alice", 2, 1}}, false},
		{ops.UserQuery{Type: "mobile"}, []ops.User{{"alice", 2, 1}, {"carol", 1, 0}}, false},
		{ops.UserQuery{Limit: 1, After: "alice"}, []ops.User{{"bob", 1, 0}}, true},
	} {
		if got, more := directory.Users(c.q); !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("%+v: listed %+v, more: %t; want %+v, %t", c.q, got, more, c.want, c.more)
		}
	}
}

func TestReportShowsADeviceThatNeverRegisteredWithWhatWaits(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store(phone, subjects.Normal, "m1")
	r, err := p.Report(t.Context(), phone)
	check(t, err)
	if r.Address() != phone || !r.Registered.IsZero() || r.Status != "offline" || r.Inbox.Unacknowledged != 1 {
		t.Errorf("reported %+v with %+v", r.Device, r.Inbox)
	}
}
