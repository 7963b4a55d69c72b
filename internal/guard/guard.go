package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

const (
	queue = "rccs-guard"
	// atOnce bounds the requests that are under way; more wait in their
	// subscription.
	atOnce = 64
	// within bounds how long JetStream may take to answer.
	within = 10 * time.Second
)

// Guard is one that runs. Make one with [Start].
type Guard struct {
	nc    *nats.Conn
	log   *slog.Logger
	sub   *nats.Subscription
	slots chan struct{}

	mu      sync.Mutex
	stopped bool
	work    sync.WaitGroup

	ctx    context.Context //nolint:containedctx // of the requests
	cancel context.CancelFunc
}

// Start returns when requests are answered. The connection's reply subjects must
// lie where no service can listen.
func Start(nc *nats.Conn, log *slog.Logger) (*Guard, error) {
	g := &Guard{nc: nc, log: log, slots: make(chan struct{}, atOnce)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	sub, err := nc.QueueSubscribe(subjects.Guarded(), queue, g.take)
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
	_ = g.sub.Unsubscribe()
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	defer context.AfterFunc(ctx, g.cancel)()
	g.work.Wait()
	g.cancel()
}

func (g *Guard) take(m *nats.Msg) {
	// What asks by another way than the import has rights of its own.
	if m.Reply != "" && !subjects.IsClientReply(m.Reply) {
		return
	}
	g.slots <- struct{}{} // given back within a bound
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	g.work.Go(func() {
		defer func() { <-g.slots }()
		g.answer(m)
	})
}

func (g *Guard) answer(m *nats.Msg) {
	api, _ := subjects.ParseGuarded(m.Subject)
	if subject, ok := laterOf(api); ok {
		g.store(m, subject)
		return
	}
	if m.Reply == "" {
		return // nobody waits
	}
	reply := &nats.Msg{Subject: m.Reply}
	kind, body, refused := examine(api, m.Data)
	if refused != nil {
		reply.Data = refused.answer(kind)
	} else {
		ctx, cancel := context.WithTimeout(g.ctx, within)
		defer cancel()
		ask := func(body []byte) ([]byte, error) {
			answer, err := g.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subjects.JetStreamAPI(api...), Header: kept(m.Header), Data: body})
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
	return bytes.ReplaceAll(answer, []byte(name+subjects.DeliverPrefix), []byte(name))
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

// examine looks at a request: the type of its answer, and either the body to ask
// JetStream with, or why it is refused.
func examine(api []string, body []byte) (kind string, pass []byte, refused *refusal) {
	what := strings.Join(api[:min(2, len(api))], ".")
	kind = strings.ToLower(strings.ReplaceAll(what, ".", "_")) + "_response"
	switch what {
	case "CONSUMER.INFO", "CONSUMER.DELETE":
		if namesOurs(api) {
			return kind, nil, &refusal{404, 10014, "consumer not found"}
		}
		return kind, body, nil
	case "CONSUMER.LIST", "CONSUMER.NAMES":
		return kind, body, nil
	case "CONSUMER.CREATE", "CONSUMER.DURABLE":
		kind = "consumer_create_response"
		if namesOurs(api) {
			return kind, nil, refuse("names that begin with %s are taken by RCCS: choose another", reader.ConsumerPrefix)
		}
		pass, refused = examineConsumer(body)
		return kind, pass, refused
	case "STREAM.PURGE":
		pass, refused = examinePurge(body)
		return "stream_purge_response", pass, refused
	}
	return "error_response", nil, refuse("this is not offered to services")
}

// examineConsumer has a push consumer deliver where only services hear it.
func examineConsumer(body []byte) ([]byte, *refusal) {
	request, refused := object(body, "config")
	if refused != nil {
		return nil, refused
	}
	raw, ok := request["config"]
	if !ok {
		return body, nil // JetStream says what is wrong
	}
	config, refused := object(raw, "deliver_subject")
	if refused != nil {
		return nil, refused
	}
	if raw, ok := config["deliver_subject"]; ok {
		var subject string
		if err := json.Unmarshal(raw, &subject); err != nil {
			return nil, refuse("deliver_subject is not a string")
		}
		if subject != "" {
			inner, ok := subjects.Deliver(subject)
			if !ok {
				return nil, refuse("a service's consumer can only deliver below _INBOX, where its clients listen: leave deliver_subject out, or make one with the client's new inbox")
			}
			config["deliver_subject"], _ = json.Marshal(inner) // a string
		}
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

// examinePurge takes what cancels delayed messages of a user, and not all of
// them.
func examinePurge(body []byte) ([]byte, *refusal) {
	request, refused := object(body, "filter")
	if refused != nil {
		return nil, refused
	}
	var filter string
	if raw, ok := request["filter"]; ok {
		if err := json.Unmarshal(raw, &filter); err != nil {
			return nil, refuse("filter is not a string")
		}
	}
	if !subjects.IsCancel(filter) {
		return nil, refuse("name what to cancel: give a filter, rccs.later.USER.DEVICE.LANE.ID or, for more of a user's, with * in the place of what comes behind USER")
	}
	pass, err := json.Marshal(request)
	if err != nil {
		return nil, refuse("not a request to purge: %v", err)
	}
	return pass, nil
}

// object decodes an object. JetStream, as Go does, takes a name in any case, and
// the last of several; so that both mean the same, name is taken as it is only.
func object(body []byte, name string) (map[string]json.RawMessage, *refusal) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, refuse("the request is not a JSON object: %v", err)
	}
	for key := range o {
		if key != name && strings.EqualFold(key, name) {
			return nil, refuse("%q is written %q", key, name)
		}
	}
	return o, nil
}
