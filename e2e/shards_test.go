package e2e_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/testkit"
)

// What users and services do does not show how many shards their tenant has.
func TestShards_NobodyNoticesThem(t *testing.T) {
	t.Parallel()
	s := start(t, "--shards", "4")
	v := s.service(t, "billing")
	const users, each = 40, 5
	inboxes := map[string]bool{}
	type pair struct{ u, phone, desktop string }
	var all []pair
	for range users {
		u := user(t)
		all = append(all, pair{u, u + "/phone", u + "/desktop"})
	}
	// Stored before the devices are there.
	for n := range each {
		for _, p := range all {
			ack, err := v.try(inbox(p.u, "phone", "normal"), fmt.Sprint(n))
			if err != nil {
				t.Fatal(err)
			}
			inboxes[ack.Stream] = true
		}
	}
	if len(inboxes) != 4 {
		t.Errorf("what is for %d users is in %v", users, inboxes)
	}
	for _, p := range all[:8] {
		phone := connect(t, s, p.phone, object{"type": "mobile"})
		for n := range each {
			e := phone.message()
			if string(e.Payload) != fmt.Sprint(n) {
				t.Errorf("%s got %s, want %d", p.u, e.raw, n)
			}
			phone.ack(e.Seq)
		}
		desktop := connect(t, s, p.desktop, object{"type": "desktop"})
		phone.wantPresence("online")
		desktop.give("phone", "from the desktop", nil)
		phone.ack(phone.wantMessage(`"from the desktop"`).Seq)
		if o := desktop.outcome(); o.Status != "delivered" {
			t.Errorf("heard %+v", o)
		}
		phone.ask("desktop", "q", "m", nil)
		desktop.asked()
		desktop.reply("q", object{"result": 1}, false)
		phone.wantResponse("q")
		if _, err := v.try("rccs.route."+token(p.u)+".any.desktop", `"routed"`); err != nil {
			t.Fatal(err)
		}
		desktop.ack(desktop.wantMessage(`"routed"`).Seq)
		desktop.beat() // it was heard before the device comes again
		if err := v.nc.Publish("rccs.signal."+token(p.u)+".phone", []byte(`"signal"`)); err != nil {
			t.Fatal(err)
		}
		if e := phone.pick(false); string(e.Payload) != `"signal"` {
			t.Errorf("got %s", e.raw)
		}
		if _, err := v.try("rccs.later."+token(p.u)+".phone.normal.x", `"later"`, "Rccs-Id", "x",
			"Nats-Schedule", "@at "+time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "rccs.due."+token(p.u)+".phone.normal"); err != nil {
			t.Fatal(err)
		}
		phone.ack(phone.wantMessage(`"later"`).Seq)
		again := connect(t, s, p.desktop, object{"type": "desktop"})
		desktop.wantReplaced()
		phone.give("desktop", "to the new one", nil)
		again.ack(again.wantMessage(`"to the new one"`).Seq)
	}
	var listed struct {
		Devices []struct{ User, Device string }
	}
	answer, err := v.nc.Request("rccs.coordinator.devices", []byte(`{"limit":1000}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer.Data, &listed); err != nil || len(listed.Devices) != 16 {
		t.Errorf("devices listed as %s (%v)", answer.Data, err)
	}
	// What was stored for the others is there after a kill.
	s.restart(t)
	for _, p := range all[8:16] {
		phone := connect(t, s, p.phone, nil)
		for n := range each {
			if e := phone.message(); string(e.Payload) != fmt.Sprint(n) {
				t.Errorf("%s got %s, want %d", p.u, e.raw, n)
			}
		}
		eventually(t, func() error { // the command does not wait long for a server that has just begun
			r := rccs(t, "", "inbox", "show", p.phone, "--data", s.data, "--server", s.NATS)
			if r.status != 0 || !strings.Contains(r.stdout, p.phone) {
				return fmt.Errorf("inbox show says %s%s", r.stdout, r.stderr)
			}
			return nil
		})
	}
}

// Services know one stream of delayed messages, and cancel there.
func TestShards_AServiceCancelsWhatItDelayed(t *testing.T) {
	t.Parallel()
	s := start(t, "--shards", "3")
	v := s.service(t, "billing")
	const users = 6
	var all []string
	for range users {
		u := user(t)
		all = append(all, u)
		delay := func(headers ...string) error {
			_, err := v.try("rccs.later."+token(u)+".phone.normal.x", "1", append(headers,
				"Nats-Schedule", "@at "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "rccs.due."+token(u)+".phone.normal")...)
			return err
		}
		if err := delay("Nats-Expected-Stream", "RCCS_LATER"); err == nil || !strings.Contains(err.Error(), "several shards") {
			t.Errorf("a stream was expected, and the answer is %v", err)
		}
		if err := delay(); err != nil {
			t.Fatal(err)
		}
	}
	later, err := v.js.Stream(t.Context(), "RCCS_LATER")
	if err != nil {
		t.Fatal(err)
	}
	if got := later.CachedInfo().State.Msgs; got != users {
		t.Errorf("%d messages are delayed, want %d", got, users)
	}
	if err := later.Purge(t.Context(), jetstream.WithPurgeSubject("rccs.later."+token(all[0])+".*.*.x")); err != nil {
		t.Fatal(err)
	}
	info, err := later.Info(t.Context(), jetstream.WithSubjectFilter("rccs.later.>"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.State.Msgs; got != users-1 || len(info.State.Subjects) != users-1 {
		t.Errorf("%d messages on %v are left, want %d", got, info.State.Subjects, users-1)
	}
}

// An edge that does not serve a device's shard names one that does. A device that
// comes back all the same is served.
func TestShards_AnEdgeSaysWhereToGo(t *testing.T) {
	t.Parallel()
	s := start(t, "--shards", "2")
	low := s.edge(t, "low", "--shards", "0", "--advertise", "wss://low.example.com")
	high := s.edge(t, "high", "--shards", "1", "--advertise", "wss://high.example.com")
	other := map[*server]string{low: "wss://high.example.com", high: "wss://low.example.com"}
	for shard, e := range []*server{low, high} {
		d, got := register(t, e, userOf(t, shard))
		if got.Type != "ack" {
			t.Fatalf("a device of the edge's own shard was told %s", got.raw)
		}
		d.close()

		var u string
		testkit.Eventually(t, "the edge knows the other", func() bool { // a moment after both have begun
			u = userOf(t, 1-shard)
			if d, got = register(t, e, u); got.Type == "ack" {
				d.close()
			}
			return got.Type != "ack"
		})
		var body struct {
			Code string   `json:"code"`
			URLs []string `json:"urls"`
		}
		if err := json.Unmarshal(got.Payload, &body); err != nil || body.Code != "WRONG_EDGE" || len(body.URLs) != 1 || body.URLs[0] != other[e] {
			t.Fatalf("told %s", got.raw)
		}
		d.wantClose(4301)

		// It insists.
		phone := connect(t, e, u+"/phone", nil)
		desktop := connect(t, s, u+"/desktop", nil)
		desktop.give("phone", "hello", nil)
		phone.ack(phone.wantMessage(`"hello"`).Seq)
	}
}

// register connects a user's phone to an edge, and returns the answer.
func register(t *testing.T, e *server, u string) (*device, envelope) {
	t.Helper()
	d := greeted(t, e, dialing{})
	d.send(object{"id": newID(), "type": "device_register", "payload": object{"id": "phone", "authToken": e.token(t, u+"/phone")}})
	return d, d.pick(false)
}

// A device that was told to go elsewhere, and then tries another edge that does not
// serve its shard, is served there: it may know no other one that it can reach.
func TestShards_ADeviceIsToldOnlyOnceWhicheverEdgeItTries(t *testing.T) {
	t.Parallel()
	s := start(t, "--shards", "2")
	edges := []*server{
		s.edge(t, "a", "--shards", "0", "--advertise", "wss://a.example.com"),
		s.edge(t, "b", "--shards", "0", "--advertise", "wss://b.example.com"),
		s.edge(t, "c", "--shards", "1", "--advertise", "wss://c.example.com"),
	}
	// Edges hear of each other, and of this, a moment later: until then a serves the
	// device, and b sends it away, too.
	testkit.Eventually(t, "the second edge serves a device that the first one has sent away", func() bool {
		u := userOf(t, 1) // which neither a nor b serves
		d, told := register(t, edges[0], u)
		if told.Type == "ack" {
			d.close()
			return false
		}
		if !strings.Contains(string(told.Payload), "wss://c.example.com") {
			t.Fatalf("told %s", told.raw)
		}
		d.wantClose(4301)
		phone, got := register(t, edges[1], u)
		if got.Type != "ack" {
			phone.wantClose(4301)
			return false
		}
		connect(t, s, u+"/desktop", nil).give("phone", "hello", nil)
		phone.ack(phone.wantMessage(`"hello"`).Seq)
		return true
	})
}

// userOf is a new user of one of two shards. NATS's partition function says which shard
// that is.
func userOf(t *testing.T, shard int) string {
	t.Helper()
	for {
		u := user(t)
		h := fnv.New32a()
		_, _ = h.Write([]byte(token(u))) // never fails
		if int(h.Sum32())%2 == shard {
			return u
		}
	}
}

func TestShards_TheirNumberStays(t *testing.T) {
	t.Parallel()
	s := start(t, "--shards", "2")
	if err := s.kill(); err != nil {
		t.Fatal(err)
	}
	r := rccs(t, "", "serve", "--data", s.data, "--shards", "3", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if r.status == 0 || !strings.Contains(r.stderr, "--shards 2") {
		t.Errorf("started with another number of shards: %+v", r)
	}
	s.args = nil
	s.begin(t)
	connect(t, s, user(t)+"/phone", nil)
}
