package natstest

import (
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Lag has Direct Gets of a stream answered from here on as by a replica that has
// nothing of it yet. The leader answers as before.
func (e *Env) Lag(stream string) {
	e.tb.Helper()
	e.mu.Lock()
	srv := e.srv
	e.mu.Unlock()
	account, err := srv.LookupAccount(server.DEFAULT_GLOBAL_ACCOUNT)
	if err != nil {
		e.tb.Fatalf("natstest: %v", err)
	}
	replica := "natstest.lag." + stream
	nc := e.Conn(e.tb)
	_, err = nc.Subscribe(replica, func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"No Results"}}})
	})
	if err == nil {
		err = nc.Flush()
	}
	if err == nil {
		err = account.AddMapping("$JS.API.DIRECT.GET."+stream, replica)
	}
	if err != nil {
		e.tb.Fatalf("natstest: %v", err)
	}
}
