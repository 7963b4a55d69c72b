package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// A service fills a tenant of a running server whose limit was lowered. It is
// told, devices of the tenant come, acknowledge and are told, another tenant goes
// on, and what waits for a device is delivered when the limit is raised.
func TestFault_ATenantWithALowerLimitIsFilledAndGoesOnWhenItIsRaised(t *testing.T) {
	t.Parallel()
	s := start(t, "--config", storeLimit(t, 200<<20))
	s.tenant(t, "small")
	set := func(limit string) {
		t.Helper()
		must(t, "tenants", "set", "small", "--max-storage", limit, "--data", s.data, "--server", s.NATS)
	}
	in := func(name string, more object) *device {
		t.Helper()
		payload := object{"authToken": s.bearer(t, "small", name)}
		maps.Copy(payload, more)
		return connect(t, s, name, payload)
	}
	v := s.serviceBy(t, s.in(t, "small", "creds", "service", "pusher"))
	u := user(t)
	away := in(u+"/away", nil)
	away.leave()
	sender := in(u+"/sender", nil)

	set("4MB")
	share := func(want int64) {
		t.Helper()
		eventually(t, func() error {
			var rows []struct {
				Name  string
				Share int64
			}
			out := must(t, "tenants", "ls", "--json", "--data", s.data, "--server", s.NATS)
			if err := json.Unmarshal([]byte(out), &rows); err != nil {
				t.Fatal(err)
			}
			if len(rows) != 2 || rows[1].Name != "small" || rows[1].Share != want {
				return errors.New(out)
			}
			return nil
		})
	}
	share(4_000_000)
	big := strings.Repeat("x", 50_000)
	stored := 0
	var refused error
	for range 100 {
		if _, refused = v.try(inbox(u, "away", "normal"), `"`+big+`"`); refused != nil {
			break
		}
		stored++
	}
	if refused == nil || stored < 20 {
		t.Fatalf("%d messages of 50 kB were stored in 2.4 MB: %v", stored, refused)
	}
	if told := sender.tries(object{"id": newID(), "type": "note", "toDeviceId": "away", "payload": big, "requiresAck": true}); told.Code != "UNAVAILABLE" || told.RetryAfterMs <= 0 {
		t.Errorf("a device that sends is told %+v", told)
	}
	// What is accepted meanwhile for whoever comes waits with its service's stream. What
	// fits no device that was ever there would be dropped.
	in(u+"/watch", object{"type": "watch"}).leave() // a new one, for which there is room
	if err := v.nc.Publish("rccs.route."+token(u)+".any.watch", []byte(`"`+strings.Repeat("y", 50_000)+`"`)); err != nil {
		t.Fatal(err)
	}
	if err := v.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	watch := in(u+"/watch", object{"type": "watch"})
	watch.beat()
	eventually(t, func() error { // the edge reads the stream a moment behind
		if away = in(u+"/away", nil); away.session.Pending != stored {
			return fmt.Errorf("%d messages wait, %d were stored", away.session.Pending, stored)
		}
		return nil
	})
	for range stored {
		away.ack(away.message().Seq)
	}
	away.beat()
	away.leave()
	if away = in(u+"/away", nil); away.session.Pending != 0 {
		t.Errorf("%d messages wait that were acknowledged", away.session.Pending)
	}
	desk, phone := connect(t, s, "bob/desk", nil), connect(t, s, "bob/phone", nil) // of another tenant
	desk.tell("phone", big, nil)
	if e := phone.message(); string(e.Payload) != `"`+big+`"` {
		t.Errorf("another tenant's device got %d bytes", len(e.Payload))
	}

	set("16MB")
	share(16_000_000)
	if e := watch.message(); !strings.Contains(string(e.Payload), "yyy") {
		t.Errorf("got %s", e.raw)
	}
	eventually(t, func() error {
		if told := sender.tries(object{"id": newID(), "type": "note", "toDeviceId": "away", "payload": "fits", "requiresAck": true}); told.Code != "" {
			return errors.New(told.Message)
		}
		return nil
	})
	away.wantMessage(`"fits"`)
	if _, err := v.try(inbox(u, "away", "normal"), `"a service's"`); err != nil {
		t.Errorf("the service, with room again: %v", err)
	}
}
