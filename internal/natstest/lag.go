package natstest

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Lag has Direct Gets of a stream answered from here on as by a replica that has
// nothing of it yet, until stop is called. The leader answers as before.
func (e *Env) Lag(stream string) (stop func()) {
	e.tb.Helper()
	return e.Answer("$JS.API.DIRECT.GET."+stream, func(_ *nats.Conn, m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"No Results"}}})
	})
}

// Leaderless has requests for the state of a stream answered from here on as a
// cluster of three does while it chooses a leader: the first n by a server that
// lags by so many messages, those after them by the leader. It returns how many
// were answered.
func (e *Env) Leaderless(stream string, behind uint64, n int64) *atomic.Int64 {
	e.tb.Helper()
	return e.answerState(stream, behind, n, "")
}

// Paused is as [Env.Leaderless], but the server that lags takes itself for the
// leader: it was paused, and reads just now what the others sent before.
func (e *Env) Paused(stream string, behind uint64, n int64) *atomic.Int64 {
	e.tb.Helper()
	return e.answerState(stream, behind, n, "a")
}

// answerState answers requests for the state of a stream. leader is whom the first n
// answers name.
func (e *Env) answerState(stream string, behind uint64, n int64, leader string) *atomic.Int64 {
	e.tb.Helper()
	asked := new(atomic.Int64)
	e.Answer("$JS.API.STREAM.INFO."+stream, func(nc *nats.Conn, m *nats.Msg) {
		var list server.JSApiStreamListResponse
		all, err := nc.Request("$JS.API.STREAM.LIST", nil, startTimeout)
		if err == nil {
			err = json.Unmarshal(all.Data, &list)
		}
		i := slices.IndexFunc(list.Streams, func(s *server.StreamInfo) bool { return s.Config.Name == stream })
		if err != nil || i < 0 {
			return // the requester finds out by itself
		}
		info := list.Streams[i]
		info.Config.Replicas = 3
		info.Cluster = &server.ClusterInfo{Leader: "b", Replicas: []*server.PeerInfo{
			{Name: "a", Current: true, Active: time.Second}, {Name: "c", Current: true, Active: time.Second},
		}}
		if asked.Add(1) <= n {
			info.Cluster.Leader = leader
			info.State.LastSeq -= min(behind, info.State.LastSeq)
		}
		body, err := json.Marshal(&server.JSApiStreamInfoResponse{
			ApiResponse: server.ApiResponse{Type: server.JSApiStreamInfoResponseType}, StreamInfo: info,
		})
		if err == nil {
			_ = m.Respond(body)
		}
	})
	return asked
}

// Answer has messages to a subject of the server's API, which may end in a
// wildcard, answered by f until stop is called. f may use the connection.
func (e *Env) Answer(subject string, f func(*nats.Conn, *nats.Msg)) (stop func()) {
	e.tb.Helper()
	e.mu.Lock()
	srv := e.srv
	e.mu.Unlock()
	account, err := srv.LookupAccount(server.DEFAULT_GLOBAL_ACCOUNT)
	if err != nil {
		e.tb.Fatalf("natstest: %v", err)
	}
	const prefix = "natstest.answer."
	nc := e.Conn(e.tb)
	_, err = nc.Subscribe(prefix+subject, func(m *nats.Msg) {
		m.Subject = m.Subject[len(prefix):]
		f(nc, m)
	})
	if err == nil {
		err = nc.Flush()
	}
	if err == nil {
		to := prefix + subject
		if before, ok := strings.CutSuffix(to, "*"); ok {
			to = before + "{{wildcard(1)}}"
		}
		err = account.AddMapping(subject, to)
	}
	if err != nil {
		e.tb.Fatalf("natstest: %v", err)
	}
	return func() { account.RemoveMapping(subject) }
}
