package guard

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A delayed message has one time, at most a year ahead, and goes to the inbox
// that its subject names.
func TestADelayedMessageHasOneTimeAndItsOwnTarget(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	const subject, target, at = "rccs.later.alice.phone.high.m1", "rccs.due.alice.phone.high", "@at 2026-02-01T00:00:00Z"
	for name, c := range map[string]struct {
		subject, schedule, target, reason string
		more                              nats.Header
	}{
		"fine":                  {subject, at, target, "", nil},
		"in the past":           {subject, "@at 2020-01-01t00:00:00z", target, "", nil},
		"the first of times":    {subject, "@at 0001-01-01T00:00:00Z", target, "", nil},
		"before a second wraps": {subject, "@at 1600-01-01T00:00:00Z", target, "", nil},
		"a leap second":         {subject, "@at 2016-12-31T23:59:60.5z", target, "", nil},
		"every second":          {subject, "@every 1s", target, wire.ReasonBadSchedule, nil},
		"cron":                  {subject, "0 0 * * * *", target, wire.ReasonBadSchedule, nil},
		"none":                  {subject, "", target, wire.ReasonBadSchedule, nil},
		"no time":               {subject, "@at tomorrow", target, wire.ReasonBadSchedule, nil},
		"no RFC 3339":           {subject, "@at 2026-02-01 00:00:00Z", target, wire.ReasonBadSchedule, nil},
		"too far":               {subject, "@at 2027-02-02T00:00:00Z", target, wire.ReasonBadSchedule, nil},
		"wraps":                 {subject, "@at 2300-01-01T00:00:00Z", target, wire.ReasonBadSchedule, nil},
		"another's inbox":       {subject, at, "rccs.due.bob.phone.high", wire.ReasonBadSchedule, nil},
		"another lane":          {subject, at, "rccs.due.alice.phone.low", wire.ReasonBadSchedule, nil},
		"a stream's own":        {subject, at, "rccs.later.alice.phone.high.m2", wire.ReasonBadSchedule, nil},
		"no target":             {subject, at, "", wire.ReasonBadSchedule, nil},
		"two times":             {subject, at, target, wire.ReasonBadSchedule, nats.Header{"Nats-Schedule": {at, "@every 1s"}}},
		"another case":          {subject, at, target, wire.ReasonBadSchedule, nats.Header{"nats-schedule": {"@every 1s"}}},
		"roll-up":               {subject, at, target, wire.ReasonBadSchedule, nats.Header{"Nats-Rollup": {"all"}}},
		"a source":              {subject, at, target, wire.ReasonBadSchedule, nats.Header{"Nats-Schedule-Source": {"rccs.later.bob.phone.high.m1"}}},
		"not escaped":           {"rccs.later.user:42.phone.high.m1", at, target, wire.ReasonBadSubject, nil},
		"no lane":               {"rccs.later.alice.phone.urgent.m1", at, target, wire.ReasonBadSubject, nil},
		"too many tokens":       {"rccs.later.alice.phone.high.m.1", at, target, wire.ReasonBadSubject, nil},
		"a name of RCCS's own":  {"rccs.later.alice.server.high.m1", at, "rccs.due.alice.server.high", wire.ReasonBadSubject, nil},
	} {
		h := nats.Header{subjects.HeaderID: {"m1"}, layout.HeaderRequester: {"x"}}
		for key, value := range map[string]string{"Nats-Schedule": c.schedule, "Nats-Schedule-Target": c.target} {
			if value != "" {
				h[key] = []string{value}
			}
		}
		maps.Copy(h, c.more)
		kept, refused, reason := examineLater(c.subject, h, now, 0)
		if reason != c.reason || (refused != nil) != (c.reason != "") {
			t.Errorf("%s: %+v, %q, want %q", name, refused, reason, c.reason)
		}
		if refused == nil && (kept[layout.HeaderRequester] != nil || kept[subjects.HeaderID] == nil) {
			t.Errorf("%s: kept %v", name, kept)
		}
		if refused == nil { // JetStream reads the form that Go writes, and no other
			at, err := time.Parse("@at "+time.RFC3339, kept.Get("Nats-Schedule"))
			if err != nil || at.Before(now) {
				t.Errorf("%s: passed on as %v: want a time as Go writes it, and now for what has passed", name, kept["Nats-Schedule"])
			}
		}
	}
}

// A delayed message that is passed on has one time and one target, which its
// subject names, and of NATS's headers no others.
func FuzzExamineLater(f *testing.F) {
	f.Add("rccs.later.alice.phone.high.m1", "Nats-Schedule", "@at 2026-02-01T00:00:00Z", "Nats-Schedule-Target", "rccs.due.alice.phone.high")
	f.Add("rccs.later.alice.phone.high.m1", "nats-Rollup", "all", "Nats-Schedule-Target", "rccs.due.alice.phone.high")
	f.Add("rccs.later.%2A.phone.high.m1", "Nats-Schedule", "@every 1s", "Nats-Schedule-TTL", "1s")
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, subject, name, value, other, otherValue string) {
		h := nats.Header{name: {value}}
		h[other] = append(h[other], otherValue)
		h.Set(layout.HeaderIssuedTo, "forged")
		kept, refused, reason := examineLater(subject, h, now, 0)
		if (refused == nil) != (reason == "") {
			t.Fatalf("%q is refused %v for %q", subject, refused, reason)
		}
		if refused != nil {
			return
		}
		key, lane, ok := subjects.ParseLater(subject)
		if !ok || kept.Get("Nats-Schedule-Target") != layout.Due(key, lane) || kept[layout.HeaderIssuedTo] != nil {
			t.Errorf("%q is passed on with %v", subject, kept)
		}
		if at, err := time.Parse("@at "+time.RFC3339Nano, kept.Get("Nats-Schedule")); err != nil || at.After(now.Add(wire.MaxDelay)) {
			t.Errorf("%q is passed on for %v", subject, kept)
		}
		for name := range kept {
			if strings.HasPrefix(strings.ToLower(name), "nats-") && !mayCarry[name] {
				t.Errorf("%q is passed on with %s", subject, name)
			}
		}
	})
}
