package main

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// After the leader of a stream was killed nobody answers for it, until the others
// have elected another.
func TestSendWaitsForALeader(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	console{}.succeed(t, "creds", "service", "s", "--init", "--data", data)
	server := natstest.Server(t, natstest.Listen())
	nc := server.Conn(t)
	const electing = 5 // more than nats.go asks by itself
	var asked atomic.Int64
	_, err := nc.Subscribe("rccs.inbox.alice.phone.normal", func(m *nats.Msg) {
		answer := &nats.Msg{Subject: m.Reply, Header: nats.Header{"Status": {"503"}}} // what a server says of a subject without a listener
		if asked.Add(1) > electing {
			answer = &nats.Msg{Subject: m.Reply, Data: []byte(`{"stream":"RCCS_INBOX","seq":7}`)}
		}
		_ = m.RespondMsg(answer)
	})
	testkit.Check(t, err)
	testkit.Check(t, nc.Flush())
	got := console{}.succeed(t, "send", "alice/phone", "1", "--data", data, "--server", server.URL())
	if !strings.Contains(got.out, "seq 7") || asked.Load() != electing+1 {
		t.Errorf("asked %d times, printed %q", asked.Load(), got.out)
	}
}
