package e2e_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/need"
)

// Whoever fills a share of the store is told which one, and when to come back.
// Meanwhile a neighbour in the tenant and a device of another tenant send the
// same, at the speed that they had.
func TestWhoFillsAShareStopsAloneAndIsTold(t *testing.T) {
	t.Parallel()
	bytes := []string{"--device-share", "1", "--user-share", "2", "--later-limit", "0", "--up-limit", "0", "--topic-limit", "0"}
	for _, c := range []struct {
		bound string
		flags []string
		size  int
		whose string
	}{
		{"bytes of a device", bytes, 100_000, "a device"},
		{"bytes of a user", append([]string{"--device-share", "0"}, bytes[2:]...), 100_000, "the devices of a user"},
		{"messages of a device", []string{"--later-limit", "20", "--up-limit", "20", "--topic-limit", "20"}, 100, "a device"},
	} {
		t.Run(c.bound, func(t *testing.T) {
			t.Parallel()
			s := start(t, append([]string{"--config", storeLimit(t, 200<<20)}, c.flags...)...)
			s.tenant(t, "other")
			u := user(t)
			s.register(t, u+"/away")
			greedy := connect(t, s, u+"/greedy", nil)
			near := user(t)
			neighbour := connect(t, s, near+"/phone", nil)
			stranger := connect(t, s, "bob/phone", object{"authToken": s.bearer(t, "other", "bob/phone")})
			for _, name := range []string{u, near, "bob"} { // for tasks, and for what waits
				tenant := "default"
				if name == "bob" {
					tenant = "other"
				}
				connect(t, s, name+"/holder", object{"type": "extension", "authToken": s.bearer(t, tenant, name+"/holder")})
				connect(t, s, name+"/watch", object{"type": "watch", "authToken": s.bearer(t, tenant, name+"/watch")}).leave()
			}
			neighbour.shares(t, "warm", 10)
			served(t, func() failure {
				return neighbour.tries(object{"id": newID(), "type": "publish", "payload": object{"topic": "shared", "data": 1}})
			})
			for what, send := range sendings(c.size) {
				messages, whose := strings.HasPrefix(c.bound, "messages"), c.whose
				switch {
				case what == "inbox" && messages: // --inbox-limit, which has a test of its own
					continue
				case what == "task" && !messages: // an entry is too small to fill a share in bytes with
					continue
				case what == "wait" && c.bound == "bytes of a device": // only a user's is bounded
					continue
				case what == "task", what == "wait":
					whose = "the devices of a user"
				}
				before := neighbour.shares(t, what, 10)
				n, refused := 0, failure{}
				for refusals := 0; refusals < 5; {
					if n > 1000 {
						t.Fatalf("%s: never refused for good, %d stored", what, n)
					}
					if refused = greedy.tries(send("away", "shared")); refused.Code == "" {
						n++
						refusals = 0
						continue
					}
					refusals++
					greedy.silent(quiet) // the count may have been behind
				}
				if refused.Code != "QUEUE_FULL" || refused.RetryAfterMs <= 0 || !strings.Contains(refused.Message, "share of "+whose) {
					t.Errorf("%s: told %+v", what, refused)
				}
				for _, d := range []*device{neighbour, stranger} {
					served(t, func() failure { return d.tries(send("phone", "its own")) })
				}
				t.Logf("%s, %s: full after %d messages; a neighbour's message took %s before and %s meanwhile",
					c.bound, what, n, before, neighbour.shares(t, what+"2", 10))
			}
			_, metrics := s.get(t, "/metrics")
			if !strings.Contains(metrics, `rccs_share_refused_total{store="later",whose="`) {
				t.Error("what was refused is not counted")
			}
		})
	}
}

// sendings are messages of each kind that is stored. to is a device, topic one
// that several users publish to.
func sendings(size int) map[string]func(to, topic string) object {
	text := strings.Repeat("x", size)
	message := func(more object) func(to, topic string) object {
		return func(to, _ string) object {
			m := object{"id": newID(), "type": "note", "toDeviceId": to, "payload": text, "requiresAck": true}
			maps.Copy(m, more)
			return m
		}
	}
	return map[string]func(to, topic string) object{
		"inbox": message(nil),
		"later": message(object{"deliverAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}),
		"topic": func(_, topic string) object {
			return object{"id": newID(), "type": "publish", "payload": object{"topic": topic, "data": text}}
		},
		"wait": func(string, string) object {
			return object{"id": newID(), "type": "note", "to": object{"deviceType": "watch", "mode": "any"}, "payload": text, "requiresAck": true}
		},
		"task": func(string, string) object {
			return object{"id": newID(), "type": "task_start", "payload": object{"taskId": newID()}, "requiresAck": true}
		},
		"up": func(string, string) object {
			return object{"id": newID(), "type": "note", "to": object{"service": true}, "payload": text, "requiresAck": true}
		},
	}
}

// tries sends, and says what it was told if it was refused.
func (d *device) tries(m object) failure {
	d.t.Helper()
	d.send(m)
	for {
		e := d.next()
		switch {
		case e.durable():
			d.ack(e.Seq)
		case e.Type == "ack":
			return failure{}
		case e.Type == "error":
			var f failure
			decode(d.t, e.Payload, &f)
			return f
		}
	}
}

// shares sends n small messages to the phone of its user, and returns how long the
// slowest took.
func (d *device) shares(t *testing.T, name string, n int) time.Duration {
	t.Helper()
	var slowest time.Duration
	for i := range n {
		began := time.Now()
		served(t, func() failure {
			return d.tries(object{"id": fmt.Sprint(name, i), "type": "note", "toDeviceId": "phone", "payload": "small", "requiresAck": true})
		})
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// A tenant that fills a part of its share is told so, and when to come back. Its
// devices still register and acknowledge, and another tenant sends the same.
func TestATenantThatFillsAPartOfItsShareStopsAlone(t *testing.T) {
	need.Night(t, "it fills a server of its own")
	t.Parallel()
	s := start(t, "--config", storeLimit(t, 24<<20), "--device-share", "0", "--user-share", "0", "--later-limit", "0", "--up-limit", "0", "--topic-limit", "0")
	s.tenant(t, "other")
	u := user(t)
	greedy := connect(t, s, u+"/greedy", nil)
	stranger := connect(t, s, "bob/phone", object{"authToken": s.bearer(t, "other", "bob/phone")})
	connect(t, s, u+"/watch", object{"type": "watch"}).leave()
	connect(t, s, "bob/watch", object{"type": "watch", "authToken": s.bearer(t, "other", "bob/watch")}).leave()
	s.register(t, u+"/away")
	greedy.give("away", 1, nil)
	for what, send := range sendings(60_000) {
		if what == "task" {
			continue // an entry is too small to fill a stream with
		}
		before := stranger.shares(t, what, 5)
		n, told := 0, failure{}
		for ; n < 300 && told.Code == ""; n++ {
			told = greedy.tries(send("away", "flood"))
		}
		switch {
		case what == "topic" && told.Code != "":
			t.Errorf("a topic drops the oldest, and refuses nothing: told %+v", told)
		case what != "topic" && (told.Code != "UNAVAILABLE" && told.Code != "QUEUE_FULL" || told.RetryAfterMs <= 0):
			t.Errorf("%s: %d messages of 60,000 bytes were stored, then told %+v", what, n, told)
		}
		served(t, func() failure { return stranger.tries(send("phone", "its own")) })
		t.Logf("%s: full after %d messages; another tenant's message took %s before and %s meanwhile", what, n, before, stranger.shares(t, what+"2", 5))
	}
	away := connect(t, s, u+"/away", nil)
	away.ack(away.message().Seq)
	away.beat()
	connect(t, s, u+"/new", nil).beat()
}
