package shard_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

const subject = "rccs.inbox.alice.phone.normal"

func TestTheOnlyShardHasTheNamesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, s := range append(shard.All(1), shard.All(0)...) {
		if s != shard.Only || !s.Alone() || s.Count() != 1 || !s.Holds("anybody") {
			t.Errorf("%+v is not the only shard", s)
		}
	}
	for _, name := range []string{layout.StreamInbox, "KV_" + layout.BucketDevices, subjects.StreamTopic} {
		if got := shard.Only.Stream(name); got != name {
			t.Errorf("stream %s is called %s", name, got)
		}
	}
	for _, name := range []string{subject, layout.DeviceSubject("alice.phone"), "rccs.topic.x"} {
		if a, b, c := shard.Only.Subject(name), shard.Only.Stored(name), shard.Only.Plain(name); a != name || b != name || c != name {
			t.Errorf("%s is %s, %s and %s", name, a, b, c)
		}
	}
}

func TestNamesOfAShardAreReadBack(t *testing.T) {
	t.Parallel()
	s := shard.At(3, 16)
	for _, c := range []struct{ plain, published, stored string }{
		{subject, "rccs.3.inbox.alice.phone.normal", subject},
		{layout.Cursor("alice.phone"), "rccs.3.cursor.alice.phone", layout.Cursor("alice.phone")},
		{layout.Watermark, "rccs.3.cursor.watermark", layout.Watermark},
		{layout.Due("a.b", subjects.Low), "rccs.3.due.a.b.low", layout.Due("a.b", subjects.Low)},
		{layout.Wait("a"), "rccs.3.wait.a", layout.Wait("a")},
		{layout.Fence, "rccs.3.fence.inbox", layout.Fence},
		{layout.DeviceSubject("a.b"), "$KV.RCCS_DEVICES_3.a.b", "$KV.RCCS_DEVICES_3.a.b"},
		{layout.TaskSubject("a", "t"), "$KV.RCCS_TASKS_3.a.t", "$KV.RCCS_TASKS_3.a.t"},
		{"rccs.topic.x", "rccs.topic.x", "rccs.topic.x"},
		{"rccs.signal.a.b", "rccs.signal.a.b", "rccs.signal.a.b"},
		{layout.AccountSubject, layout.AccountSubject, layout.AccountSubject},
	} {
		if got := s.Subject(c.plain); got != c.published {
			t.Errorf("%s is published to %s, want %s", c.plain, got, c.published)
		}
		if got := s.Subject(c.published); got != c.published {
			t.Errorf("%s is published to %s the second time", c.published, got)
		}
		if got := s.Stored(c.plain); got != c.stored {
			t.Errorf("%s is stored on %s, want %s", c.plain, got, c.stored)
		}
		if a, b := s.Plain(c.published), s.Plain(c.stored); a != c.plain || b != c.plain {
			t.Errorf("%s is read back as %s and %s", c.plain, a, b)
		}
	}
	for stream, want := range map[string]string{layout.StreamInbox: "RCCS_INBOX_3", "KV_RCCS_TASKS": "KV_RCCS_TASKS_3", layout.StreamAudit: layout.StreamAudit} {
		got := s.Stream(stream)
		if plain, own := s.PlainStream(got); got != want || plain != stream || !own {
			t.Errorf("stream %s is called %s, and read back as %s", stream, got, plain)
		}
	}
	if _, own := s.PlainStream("RCCS_INBOX_13"); own {
		t.Error("another shard's stream is taken for an own one")
	}
}

func TestAScheduleNamesATargetInItsShard(t *testing.T) {
	t.Parallel()
	s := shard.At(1, 2)
	target := layout.Due("a.b", subjects.High)
	m := &nats.Msg{Subject: subjects.Later("a.b", subjects.High, "x"), Header: nats.Header{"Nats-Schedule-Target": {target}}}
	s.Address(m)
	if got := m.Header.Get("Nats-Schedule-Target"); got != "rccs.1.due.a.b.high" || m.Subject != "rccs.1.later.a.b.high.x" {
		t.Errorf("published to %s with the target %s", m.Subject, got)
	}
	s.PlainHeader(m.Subject, m.Header)
	if got := m.Header.Get("Nats-Schedule-Target"); got != target {
		t.Errorf("read back as %s", got)
	}
}

// Two shards number their messages alike, and have one stream of events.
func TestEventsOfTwoShardsHaveDifferentIDs(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, s := range shard.All(3) {
		m := &nats.Msg{Subject: "rccs.event.a.b.registered", Header: nats.Header{"Nats-Msg-Id": {"device/7"}}}
		s.Address(m)
		id := m.Header.Get("Nats-Msg-Id")
		ids[id] = true
		if s.Address(m); m.Header.Get("Nats-Msg-Id") != id {
			t.Errorf("an event that is sent again has the id %s, and had %s", m.Header.Get("Nats-Msg-Id"), id)
		}
		if s.PlainHeader(m.Subject, m.Header); m.Header.Get("Nats-Msg-Id") != "device/7" {
			t.Errorf("the id is read back as %s", m.Header.Get("Nats-Msg-Id"))
		}
		of := &nats.Msg{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {"device/7"}}}
		if s.Address(of); of.Header.Get("Nats-Msg-Id") != "device/7" {
			t.Errorf("a message of an inbox has another id: %s", of.Header.Get("Nats-Msg-Id"))
		}
	}
	if len(ids) != 3 {
		t.Errorf("the ids are %v", ids)
	}
}

// NATS decides the shard of what services publish, and RCCS that of all else.
func FuzzNATSFindsTheSameShard(f *testing.F) {
	for _, user := range []string{"alice", "alice@example.com", "", "ü", strings.Repeat("u", 128)} {
		f.Add(user, 4)
	}
	f.Fuzz(func(t *testing.T, name string, of int) {
		if of < 2 || of > shard.Max || subjects.CheckUser(subjects.UserID(name)) != nil {
			return
		}
		key := subjects.Address{User: subjects.UserID(name), Device: "phone"}.Key()
		for from, to := range shard.Mappings(of) {
			mapping, err := server.NewSubjectTransform(from, to)
			if err != nil {
				t.Fatal(err)
			}
			published := map[string]string{
				"rccs.inbox.*.*.*": subjects.Inbox(key, subjects.Normal),
				"rccs.route.*.*":   "rccs.route." + key.User() + ".any",
				"rccs.route.*.*.*": "rccs.route." + key.User() + ".type.mobile",
			}[from]
			if published == "" {
				continue // it names no user
			}
			got, err := mapping.Match(published)
			own := shard.At(shard.OfUser(subjects.UserID(name), of), of)
			if want := own.Subject(published); err != nil || got != want {
				t.Errorf("NATS maps %s to %s (%v), RCCS to %s", published, got, err, want)
			}
			if !own.Holds(key.User()) {
				t.Errorf("%s is not in its own shard", name)
			}
		}
	})
}

func TestUsersAreSpreadOverShards(t *testing.T) {
	t.Parallel()
	const users, of = 4000, 8
	var count [of]int
	for n := range users {
		count[shard.OfUser(subjects.UserID(fmt.Sprintf("user-%d@example.com", n)), of)]++
	}
	for n, got := range count {
		if got < users/of/2 || got > users/of*2 {
			t.Errorf("shard %d has %d of %d users", n, got, users)
		}
	}
}

func TestHowManyShardsThereMayBe(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 0, shard.Max + 1} {
		if shard.Check(n) == nil {
			t.Errorf("%d shards are taken", n)
		}
	}
	for _, n := range []int{1, shard.Max} {
		if err := shard.Check(n); err != nil {
			t.Error(err)
		}
	}
}
