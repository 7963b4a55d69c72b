package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/pool"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/share"
	"github.com/rccs-io/rccs/internal/stops"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

const (
	queue = "rccs-guard"
	// atOnce bounds the requests that are under way; more wait, by service.
	atOnce = 64
	// backlog bounds how many wait, and waitingBytes how much, of which serviceBytes
	// may be of one service. A service past any of them is told so, and others go on.
	backlog      = 64 << 10
	waitingBytes = 512 << 20
	serviceBytes = 32 << 20
	// within bounds how long JetStream may take to answer.
	within = 10 * time.Second
)

// Options are what a guard needs to know.
type Options struct {
	// MaxDelay is how far ahead a schedule may lie; 0 is [wire.MaxDelay].
	MaxDelay time.Duration
	// Undeliverable, if set, is called for each message of a service that was
	// refused without anybody waiting for an answer.
	Undeliverable func(reason string)
	// Shares bound what services delay; nil: nothing does.
	Shares Shares
	// Waiting returns the sequence of what is stored on a subject of delayed
	// messages; 0: nothing is. A note, if there is one, is stored together with the
	// message that takes its place, and has its sender told. Nil: nobody is told.
	Waiting func(ctx context.Context, subject string) (seq uint64, note *nats.Msg, err error)
	// Shards is how many shards the tenant has; 0 is 1.
	Shards int
	// Logger is needed.
	Logger *slog.Logger
}

// Shares bound what is stored; [share.Shares] is the one of a shard.
type Shares interface {
	Admit(k share.Kind, key subjects.Key, size int) *wire.Error
}

// Guard is one that runs. Make one with [Start].
type Guard struct {
	nc   *nats.Conn
	opts Options
	log  *slog.Logger
	sub  *nats.Subscription
	work *pool.Pool
	room *pool.Places // bytes of what is taken and not answered yet
	seed maphash.Seed
	// replacing is held while a delayed message is replaced, by the hash of its subject.
	replacing [atOnce]sync.Mutex

	ctx    context.Context //nolint:containedctx // of the requests
	cancel context.CancelFunc
}

// Start returns when requests are answered. The connection's reply subjects must
// lie where no service can listen.
func Start(nc *nats.Conn, opts Options) (*Guard, error) {
	if opts.Shares == nil {
		opts.Shares = (*share.Shares)(nil)
	}
	g := &Guard{nc: nc, opts: opts, log: opts.Logger, work: pool.New(atOnce, backlog), room: pool.NewPlaces(waitingBytes, serviceBytes), seed: maphash.MakeSeed()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	sub, err := nc.QueueSubscribe(layout.Guarded(), queue, g.onRequest)
	if err == nil {
		err = nc.FlushTimeout(within)
	}
	if err != nil {
		g.cancel()
		return nil, fmt.Errorf("guard: %w", err)
	}
	g.sub = sub
	return g, nil
}

// Stop answers what it has begun with, until ctx ends.
func (g *Guard) Stop(ctx context.Context) {
	defer context.AfterFunc(ctx, g.cancel)()
	stops.Drain(ctx, g.nc, g.sub)
	g.work.Stop()
	g.cancel()
}

func (g *Guard) onRequest(m *nats.Msg) {
	// What asks by another way than the import has rights of its own.
	if m.Reply != "" && !layout.IsClientReply(m.Reply) {
		return
	}
	service := headers.Requester(m)
	// NATS does not say who asks for the state of the delayed messages, since services
	// may ask JetStream itself for it. No record names them.
	if service == headers.Hidden && m.Subject != layout.GuardedAPI(streamInfo+subjects.StreamLater) {
		g.hidden(m)
		return
	}
	if release, ok := g.room.TryAcquire(service, int64(m.Size())); ok {
		if g.work.RunInTurn(service, func() { defer release(); g.answer(m) }) {
			return
		}
		release()
	}
	g.busy(m)
}

// busy tells a service that it has asked more than it can be answered.
func (g *Guard) busy(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	if subject, later := laterOf(api); later && m.Reply == "" {
		g.tell(subjects.EventFull, subject, m.Header, map[string]any{})
		return
	}
	const text = "too many requests of this service are waiting, try again"
	g.refuse(m, api, &refusal{503, storeFailed, text}, &refusal{503, 10008, text})
}

// hidden refuses what does not show which service asks: the record could not name
// it, and a revocation could not end what it has delayed.
func (g *Guard) hidden(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	g.log.Debug("request of a service refused: it hides who asks", "subject", m.Subject)
	r := refuse(headers.HidesRequester)
	g.refuse(m, api, r, r)
}

// refuse answers a publication, or a request to JetStream's API, with an error.
func (g *Guard) refuse(m *nats.Msg, api []string, publication, request *refusal) {
	if _, later := laterOf(api); later {
		g.reply(m, publication.publication())
		return
	}
	g.reply(m, request.answer(answerOf(api)))
}

func (g *Guard) answer(m *nats.Msg) {
	api, _ := layout.ParseGuarded(m.Subject)
	if subject, ok := laterOf(api); ok {
		g.store(m, subject)
		return
	}
	if m.Reply == "" {
		return // nobody waits
	}
	reply := &nats.Msg{Subject: m.Reply}
	if g.opts.Shards > 1 && strings.Join(api, ".") == streamInfo+subjects.StreamLater {
		g.reply(m, g.infoOfAll(m.Data))
		return
	}
	kind, body, refused := examine(api, m.Data)
	if refused != nil {
		reply.Data = refused.answer(kind)
	} else {
		ctx, cancel := context.WithTimeout(g.ctx, within)
		defer cancel()
		api := g.inShard(api, body)
		ask := func(body []byte) ([]byte, error) {
			answer, err := g.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: layout.JetStreamAPI(api...), Header: kept(m.Header), Data: body})
			if err != nil {
				return nil, err
			}
			return answer.Data, nil
		}
		answer, err := ask(body)
		if err == nil && isList(api) {
			answer, err = withoutOurs(answer, ask, body)
		}
		switch {
		case err == nil:
			reply.Data = shown(answer)
		case errors.Is(err, nats.ErrNoResponders):
			reply.Data = (&refusal{503, 10008, "JetStream system temporarily unavailable"}).answer(kind)
		default:
			return // nor has JetStream answered
		}
	}
	if err := g.nc.PublishMsg(reply); err != nil {
		g.log.Warn("request of a service to JetStream not answered", "err", err)
	}
}

// kept are the headers that JetStream reads: what level of its API is required.
func kept(h nats.Header) nats.Header {
	const required = "Nats-Required-Api-Level"
	if v, ok := h[required]; ok {
		return nats.Header{required: v}
	}
	return nil
}

// shown is an answer with the subjects of push consumers as services know them.
func shown(answer []byte) []byte {
	const name = `"deliver_subject":"`
	return bytes.ReplaceAll(answer, []byte(name+layout.DeliverPrefix), []byte(name))
}

// refusal is an error as JetStream gives it.
type refusal struct {
	status, code int
	text         string
}

func refuse(format string, args ...any) *refusal {
	return &refusal{400, 10003, fmt.Sprintf(format, args...)} // bad request
}

// answer is the body that says so, of a type.
func (r *refusal) answer(kind string) []byte {
	body, err := json.Marshal(map[string]any{
		"type":  "io.nats.jetstream.api.v1." + kind,
		"error": map[string]any{"code": r.status, "err_code": r.code, "description": r.text},
	})
	if err != nil {
		return nil // strings and numbers always are JSON
	}
	return body
}

// answerOf is the type of the answer to a request.
func answerOf(api []string) string {
	return strings.ToLower(strings.Join(api[:min(2, len(api))], "_")) + "_response"
}

// examine looks at a request: the type of its answer, and either the body to ask
// JetStream with, or why it is refused.
func examine(api []string, body []byte) (kind string, pass []byte, refused *refusal) {
	what := strings.Join(api[:min(2, len(api))], ".")
	kind = answerOf(api)
	switch what {
	case "CONSUMER.INFO", "CONSUMER.DELETE":
		if namesOurs(api) {
			return kind, nil, &refusal{404, 10014, "consumer not found"}
		}
		return kind, nil, nil // all of it is in the subject
	case "CONSUMER.LIST", "CONSUMER.NAMES":
		return kind, body, nil
	case "CONSUMER.CREATE", "CONSUMER.DURABLE":
		kind = "consumer_create_response"
		if namesOurs(api) {
			return kind, nil, refuse("names that begin with %s are taken by RCCS: choose another", reader.ConsumerPrefix)
		}
		pass, refused = examineConsumer(api, body)
		return kind, pass, refused
	case "STREAM.PURGE":
		pass, refused = examinePurge(body)
		return "stream_purge_response", pass, refused
	}
	return "error_response", nil, refuse("this is not offered to services")
}

// What a service may say of a consumer: all that its clients need, and nothing
// that names a subject of RCCS or escapes a limit, as direct does.
var (
	createFields   = fields("stream_name", "config", "action", "pedantic")
	consumerFields = fields(
		"name", "durable_name", "description", "metadata", "deliver_policy", "opt_start_seq", "opt_start_time", "ack_policy", "ack_wait",
		"max_deliver", "backoff", "filter_subject", "filter_subjects", "replay_policy", "rate_limit_bps", "sample_freq", "max_waiting",
		"max_ack_pending", "headers_only", "max_batch", "max_expires", "max_bytes", "inactive_threshold", "num_replicas", "mem_storage",
		"deliver_subject", "deliver_group", "flow_control", "idle_heartbeat", "priority_groups", "priority_policy", "priority_timeout",
		"pause_until",
	)
	purgeFields = fields("filter", "seq", "keep")
)

func fields(names ...string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}

// examineConsumer has a push consumer deliver where only services hear it. What
// is named in the subject is named the same in the body.
func examineConsumer(api []string, body []byte) ([]byte, *refusal) {
	request, refused := object(body, createFields)
	if refused != nil {
		return nil, refused
	}
	config, refused := object(request["config"], consumerFields)
	if refused != nil {
		return nil, refused
	}
	stream, name := consumerOf(api)
	for _, one := range []struct {
		of    map[string]json.RawMessage
		field string
		want  string // empty: the subject does not say
	}{{request, "stream_name", stream}, {config, "name", name}, {config, "durable_name", name}} {
		got, refused := text(one.of, one.field)
		switch {
		case refused != nil:
			return nil, refused
		case got == "":
		case isOurs(got):
			return nil, refuse("names that begin with %s are taken by RCCS: choose another", reader.ConsumerPrefix)
		case one.want != "" && got != one.want:
			return nil, refuse("%s is %q, and %q in the subject: name one", one.field, got, one.want)
		}
	}
	subject, refused := text(config, "deliver_subject")
	if refused != nil {
		return nil, refused
	}
	if subject != "" {
		inner, ok := layout.Deliver(subject)
		if !ok {
			return nil, refuse("a service's consumer can only deliver below _INBOX, where its clients listen: leave deliver_subject out, or make one with the client's new inbox")
		}
		config["deliver_subject"], _ = json.Marshal(inner) // a string
	}
	var err error
	if request["config"], err = json.Marshal(config); err == nil {
		body, err = json.Marshal(request)
	}
	if err != nil {
		return nil, refuse("not a request to create a consumer: %v", err)
	}
	return body, nil
}

// consumerOf are the stream and the consumer that a request to create one names
// in its subject; no consumer where JetStream is to name it.
func consumerOf(api []string) (stream, name string) {
	rest := api[2:] // CONSUMER.CREATE
	if api[1] == "DURABLE" {
		rest = api[min(3, len(api)):] // CONSUMER.DURABLE.CREATE
	}
	if len(rest) > 0 {
		stream = rest[0]
	}
	if len(rest) > 1 {
		name = rest[1]
	}
	return stream, name
}

// text is a field that is a string, empty when absent.
func text(of map[string]json.RawMessage, field string) (value string, refused *refusal) {
	raw, ok := of[field]
	if !ok {
		return "", nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", refuse("%s is not a string", field)
	}
	return value, nil
}

// examinePurge takes what cancels delayed messages of a user, and not all of
// them.
func examinePurge(body []byte) ([]byte, *refusal) {
	request, refused := object(body, purgeFields)
	if refused != nil {
		return nil, refused
	}
	filter, refused := text(request, "filter")
	if refused != nil {
		return nil, refused
	}
	if !layout.IsCancel(filter) {
		return nil, refuse("name what to cancel: give a filter, rccs.later.USER.DEVICE.LANE.ID or, for more of a user's, with * in the place of what comes behind USER")
	}
	pass, err := json.Marshal(request)
	if err != nil {
		return nil, refuse("not a request to purge: %v", err)
	}
	return pass, nil
}

// object decodes an object that has no fields but those that are allowed, written
// as they are: JetStream, as Go does, takes a name in any case.
func object(body []byte, allowed map[string]bool) (map[string]json.RawMessage, *refusal) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, refuse("the request is not a JSON object: %v", err)
	}
	for key, value := range o {
		switch {
		case allowed[key]:
		case string(value) == "null" || string(value) == "false":
			delete(o, key) // says nothing, whatever it is
		default:
			return nil, refuse("%q is not for services: leave it out", key)
		}
	}
	return o, nil
}
