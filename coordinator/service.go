package coordinator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// ServiceName is the name that `nats micro ls` shows.
const ServiceName = "rccs-coordinator"

const serviceDescription = "RCCS: devices, sessions, missed messages and replay; routing for services"

// retryAfter is the wait that errors suggest which pass by themselves.
const retryAfter = time.Second

// service is a NATS micro service (ADR-32). It uses the types of nats.go's micro,
// but not its service. That would answer on any reply subject, for PING among
// others, so that a requester could have the coordinator publish anywhere. It
// also runs one goroutine an endpoint, and would measure the time of the handing
// over instead of the work.
type service struct {
	c      *Coordinator
	who    micro.ServiceIdentity
	ctx    context.Context // of the work
	cancel context.CancelFunc
	subs   []*nats.Subscription
	all    []*endpoint
}

// handler answers a request with a value to encode as JSON, or with nil for no
// answer.
type handler func(ctx context.Context, req *request) (any, *wire.Error)

// endpoint is one subject or, for devices, one pattern of subjects.
type endpoint struct {
	name    string
	subject string
	does    string // for people
	handle  handler
	pool    *workers
	device  bool // called by devices for themselves
	within  time.Duration

	mu    sync.Mutex
	stats micro.EndpointStats
}

// workers do the work of one or more endpoints. What waits for them is bounded in
// number by the pool, and in bytes by room.
type workers struct {
	*pool.Pool
	room *pool.Places
}

// Bounds of the bytes of requests to a coordinator that wait or are worked on.
const (
	waitingBytes   = 256 << 20 // of all that have more than one there
	requesterBytes = 64 << 20
)

func newWorkers(n, backlog int) *workers {
	return &workers{pool.New(n, backlog), pool.NewPlaces(waitingBytes, requesterBytes)}
}

// submit runs f in the turn of a requester: a device, which has a bound of what is
// open, or a service, which may have as much waiting as there is room for. The
// error says which bound it is that refuses f.
func (w *workers) submit(requester string, device bool, size int, f func()) *wire.Error {
	release, ok := w.room.TryAcquire(requester, int64(size))
	if !ok {
		return wire.NewError(wire.Unavailable, "the requests that are waiting are too large together: wait for answers, then try again")
	}
	run := w.RunInTurn
	if device {
		run = w.RunFor
	}
	if run(requester, func() { defer release(); f() }) {
		return nil
	}
	release()
	if device {
		return wire.NewError(wire.RateLimited, "too many requests of this device are open, or of all: wait for answers")
	}
	return wire.NewError(wire.Unavailable, "too many requests are waiting, try again")
}

// request is a request to an endpoint.
type request struct {
	*nats.Msg
	key subjects.Key // of the device that asks; empty for anybody else
}

// requester returns who takes turns: a device, or the service that NATS names.
// Components and operators are one requester: their requests do not come through
// an import.
func (r *request) requester() string {
	if r.key != "" {
		return string(r.key)
	}
	return cmp.Or(headers.Requester(r.Msg), "the tenant's own users")
}

// service returns "service:NAME" of the service that asks, for the record. What is
// asked by another way than the services' account is by "a service": a credential
// from before services had that account, which NATS does not tell from others.
func (r *request) service() string {
	name := headers.ServiceName(r.Msg)
	if key := headers.Requester(r.Msg); name == "" && key != "" {
		name = "service " + key // its credential has no such name
	}
	return cmp.Or(name, "a service")
}

// startService subscribes to the endpoints' subjects.
func startService(c *Coordinator) (*service, error) {
	s := &service{c: c, who: micro.ServiceIdentity{
		Name: ServiceName, ID: c.id, Version: semantic(c.opts.Version), Metadata: map[string]string{"name": c.opts.Name},
	}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.all = slices.Concat(c.operatorEndpoints(), c.deviceEndpoints(), c.enrollEndpoints())
	c.spread(s.all)
	for _, e := range s.all {
		c.metrics.requests.WithLabelValues(e.name, "")
		e.stats = micro.EndpointStats{Name: e.name, Subject: e.subject, QueueGroup: micro.DefaultQueueGroup}
		sub, err := c.core.QueueSubscribe(e.subject, micro.DefaultQueueGroup, func(m *nats.Msg) { c.contained(e.name, func() { s.onRequest(e, m) }) })
		if err := s.add(sub, err); err != nil {
			return nil, err
		}
	}
	for verb, answer := range map[micro.Verb]func() any{micro.PingVerb: s.ping, micro.InfoVerb: s.info, micro.StatsVerb: s.statistics} {
		for _, to := range [][2]string{{"", ""}, {s.who.Name, ""}, {s.who.Name, s.who.ID}} {
			subject, err := micro.ControlSubject(verb, to[0], to[1])
			if err != nil {
				s.stop(context.Background())
				return nil, fmt.Errorf("coordinator: %w", err)
			}
			sub, err := c.core.Subscribe(subject, func(m *nats.Msg) { c.contained("monitoring", func() { s.monitor(m, answer) }) })
			if err := s.add(sub, err); err != nil {
				return nil, err
			}
		}
	}
	if err := c.core.FlushTimeout(subscribeTimeout); err != nil {
		s.stop(context.Background())
		return nil, fmt.Errorf("coordinator: subscribe: %w", err)
	}
	return s, nil
}

func (s *service) add(sub *nats.Subscription, err error) error {
	if err != nil {
		s.stop(context.Background())
		return fmt.Errorf("coordinator: subscribe: %w", err)
	}
	s.subs = append(s.subs, sub)
	return nil
}

// stop takes no more requests, and answers those it has for half of the time that
// is left. Other parts store what they know after it, and what waits may be a
// flood.
func (s *service) stop(ctx context.Context) {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	stops.Drain(ctx, s.c.core, s.subs...)
	s.subs = nil
	for _, one := range s.c.all() {
		one.cancelWaits()
	}
	defer context.AfterFunc(ctx, s.cancel)()
	for _, e := range s.all {
		e.pool.Stop()
	}
	s.cancel()
	_ = s.c.core.FlushTimeout(flushTimeout)
}

// subscribeTimeout bounds how long a busy server may take to have the subscriptions.
const subscribeTimeout = time.Minute

// flushTimeout bounds how long sending the last answers may take.
const flushTimeout = time.Second

// onRequest hands a request to the endpoint's workers.
func (s *service) onRequest(e *endpoint, m *nats.Msg) {
	req := &request{Msg: m}
	named := true
	if e.device {
		req.key, _, named = layout.ParseDeviceEndpoint(m.Subject)
	}
	if !named || !req.mayReply() {
		s.c.metrics.dropped.Inc()
		s.c.log.Warn("request with a foreign reply subject dropped", "subject", m.Subject, "reply", m.Reply)
		return
	}
	if !e.device && m.Reply == "" { // nobody waits, and NATS does not show who has asked
		s.c.metrics.dropped.Inc()
		s.c.log.Warn("request without a reply subject dropped", "subject", m.Subject)
		return
	}
	requester := req.requester()
	if requester == headers.Hidden {
		s.answer(e, req, nil, wire.NewError(wire.BadMessage, headers.HidesRequester), 0)
		return
	}
	if err := e.pool.submit(requester, e.device, m.Size(), func() { s.serve(e, req) }); err != nil {
		err.RetryAfter = retryAfter
		s.answer(e, req, nil, err, 0)
	}
}

// serve answers a request, and counts it.
func (s *service) serve(e *endpoint, req *request) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, e.within)
	defer cancel()
	var value any
	werr := wire.NewError(wire.Internal, "a fault of the coordinator")
	s.c.contained(e.name, func() { value, werr = e.handle(ctx, req) })
	s.answer(e, req, value, werr, time.Since(start))
}

func (s *service) answer(e *endpoint, req *request, value any, werr *wire.Error, took time.Duration) {
	m := &nats.Msg{Subject: req.Reply}
	if werr == nil {
		var err error
		if m.Data, err = encode(value); err != nil {
			s.c.log.Error("answer not encoded", "endpoint", e.name, "err", err)
			werr = wire.NewError(wire.Internal, "")
		}
	}
	code := ""
	if werr != nil {
		code = string(werr.Code)
		m.Data = werr.AppendPayload(nil)
		m.Header = nats.Header{micro.ErrorHeader: {werr.Text()}, micro.ErrorCodeHeader: {strconv.Itoa(status(werr.Code))}}
		if werr.RetryAfter > 0 {
			m.Header.Set(enroll.HeaderRetryAfter, enroll.RetrySeconds(werr))
		}
	}
	s.c.metrics.requests.WithLabelValues(e.name, code).Inc()
	e.count(took, werr)
	if req.Reply == "" || m.Data == nil && m.Header == nil {
		return
	}
	if err := s.c.core.PublishMsg(m); err != nil {
		s.c.log.Warn("request not answered", "endpoint", e.name, "err", err)
	}
}

// encode encodes an answer as JSON. Bytes are JSON already.
func encode(value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	}
	return json.Marshal(value)
}

func (e *endpoint) count(took time.Duration, err *wire.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.NumRequests++
	e.stats.ProcessingTime += took
	e.stats.AverageProcessingTime = e.stats.ProcessingTime / time.Duration(e.stats.NumRequests)
	if err != nil {
		e.stats.NumErrors++
		e.stats.LastError = strconv.Itoa(status(err.Code)) + ":" + err.Text()
	}
}

// status returns the number for a code, like an HTTP status.
func status(code wire.Code) int {
	switch code {
	case wire.BadFrame, wire.BadMessage:
		return 400
	case wire.AuthRequired, wire.AuthError, wire.TokenExpired:
		return 401
	case wire.PermissionDenied, wire.IdentityMismatch, wire.DeviceRevoked:
		return 403
	case wire.DeviceNotFound:
		return 404
	case wire.Conflict:
		return 409
	case wire.MessageTooLarge:
		return 413
	case wire.QueueFull, wire.RateLimited:
		return 429
	case wire.Unavailable, wire.DeviceOffline:
		return 503
	case wire.Timeout:
		return 504
	default:
		return 500
	}
}

// monitor answers PING, INFO and STATS.
func (s *service) monitor(m *nats.Msg, answer func() any) {
	if m.Reply == "" || !(&request{Msg: m}).mayReply() {
		return
	}
	data, err := json.Marshal(answer())
	if err == nil {
		err = s.c.core.Publish(m.Reply, data)
	}
	if err != nil {
		s.c.log.Warn("monitoring not answered", "err", err)
	}
}

// pong is the answer to a PING, with the reason why the coordinator cannot do its
// work.
type pong struct {
	micro.Ping
	Unready string `json:"unready,omitempty"`
	// Unserved is how many other tenants the process does not serve. Services hear
	// this too, so their names are not in it.
	Unserved int   `json:"unserved,omitempty"`
	Shards   []int `json:"shards"` // that it works
}

func (s *service) ping() any {
	answer := pong{Ping: micro.Ping{ServiceIdentity: s.who, Type: micro.PingResponseType}, Shards: s.c.members.own().Shards}
	if err := s.c.healthy(); err != nil {
		answer.Unready = err.Error()
	}
	if s.c.opts.Unserved != nil {
		answer.Unserved = s.c.opts.Unserved()
	}
	return answer
}

func (s *service) info() any {
	info := micro.Info{ServiceIdentity: s.who, Type: micro.InfoResponseType, Description: serviceDescription}
	for _, e := range s.all {
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{
			Name: e.name, Subject: e.subject, QueueGroup: micro.DefaultQueueGroup, Metadata: map[string]string{"description": e.does},
		})
	}
	return info
}

func (s *service) statistics() any {
	stats := micro.Stats{ServiceIdentity: s.who, Type: micro.StatsResponseType, Started: s.c.started.UTC()}
	for _, e := range s.all {
		e.mu.Lock()
		one := e.stats
		e.mu.Unlock()
		stats.Endpoints = append(stats.Endpoints, &one)
	}
	return stats
}
