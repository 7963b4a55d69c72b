package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// A server that is slow to say which connections it has is asked again: the ninth
// connection of a device is ended all the same, and none is before that is sure.
func TestTheNinthConnectionIsEndedThoughItsServerIsSlowToAnswer(t *testing.T) {
	t.Parallel()
	keys, err := auth.OpenKeystore(t.TempDir())
	testkit.Check(t, err)
	phone, err := keys.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{Expires: time.Hour})
	testkit.Check(t, err)
	env := natstest.Server(t)
	server := env.Conn(t)
	var asked atomic.Int32
	kicked := make(chan string, 100)
	answer := func(m *nats.Msg, body string) { testkit.Check(t, m.Respond([]byte(body))) }
	_, err = server.Subscribe("$SYS.REQ.SERVER.SLOW.*", func(m *nats.Msg) {
		switch {
		case strings.HasSuffix(m.Subject, ".KICK"):
			kicked <- string(m.Data)
			answer(m, `{"server":{}}`)
		case asked.Add(1) > 9: // nothing of the first time
			answer(m, `{"data":{"connections":[{}]}}`)
		}
	})
	testkit.Check(t, err)
	testkit.Check(t, server.Flush())
	c, err := startConnections(env.Conn(t), prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	testkit.Check(t, err)
	t.Cleanup(func() { testkit.Check(t, c.stop(t.Context())) })
	for n := range 9 {
		event := fmt.Sprintf(`{"server":{"id":"SLOW"},"client":{"id":%d,"acc":"A","jwt":%q,"start":%q}}`, n, phone.JWT, time.Unix(int64(n), 0).Format(time.RFC3339))
		testkit.Check(t, server.Publish("$SYS.ACCOUNT.A.CONNECT", []byte(event)))
	}
	if got := testkit.Await(t, "a connection is ended", kicked); got != `{"cid":8}` {
		t.Errorf("ended %s, not the newest", got)
	}
	// The next one is of a server that is gone, which nobody takes for slow.
	event := fmt.Sprintf(`{"server":{"id":"GONE"},"client":{"id":1,"acc":"A","jwt":%q,"start":%q}}`, phone.JWT, time.Unix(100, 0).Format(time.RFC3339))
	testkit.Check(t, server.Publish("$SYS.ACCOUNT.A.CONNECT", []byte(event)))
	event = fmt.Sprintf(`{"server":{"id":"SLOW"},"client":{"id":9,"acc":"A","jwt":%q,"start":%q}}`, phone.JWT, time.Unix(101, 0).Format(time.RFC3339))
	testkit.Check(t, server.Publish("$SYS.ACCOUNT.A.CONNECT", []byte(event)))
	if got := testkit.Await(t, "a connection is ended", kicked); got != `{"cid":9}` {
		t.Errorf("ended %s, not the newest", got)
	}
}

// What a server tells of a connection is read without a fault, and counts for a
// device only where the credential in it is a device's.
func FuzzParseConnection(f *testing.F) {
	keys, err := auth.OpenKeystore(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	phone, err := keys.IssueDevice(subjects.Address{User: "alice", Device: "phone"}, auth.DeviceOptions{Expires: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	service, err := keys.IssueService("billing", auth.ServiceOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for _, token := range []string{phone.JWT, service.JWT, "", "a.b.c"} {
		event, err := json.Marshal(map[string]any{
			"server": map[string]any{"id": "S"}, "client": map[string]any{"id": 7, "acc": "A", "jwt": token, "start": time.Unix(1, 0)},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(event)
	}
	f.Add([]byte(`{"client":{"jwt":1}}`))
	f.Add([]byte(`{"client":{"start":"never","stop":{}}}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		h, _, _, ok := parseConnection(event)
		if _, err := subjects.ParseAddress(h.device); ok != (err == nil) {
			t.Errorf("%q counts (%t) for %q", event, ok, h.device)
		}
	})
}
