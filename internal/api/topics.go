package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Topic is a topic that holds messages.
type Topic = ops.Topic

// Follower is a device that follows a topic.
type Follower = ops.Follower

// TopicMessage is a message of a topic.
type TopicMessage = ops.TopicMessage

type topicsInput struct {
	InTenant
	Paged
	Q string `query:"q" maxLength:"512" doc:"Only with this in the name, in capitals or not"`
}

// TopicInput names a topic.
type TopicInput struct {
	InTenant
	Topic string `path:"topic" maxLength:"512" doc:"The topic, percent-encoded once" example:"builds.main"`
}

type readTopicInput struct {
	TopicInput
	Paged
	From uint64 `query:"from" doc:"The first seq of interest"`
	Last bool   `query:"last" doc:"The last messages in place of the first, the oldest of them first"`
}

type followersInput struct {
	TopicInput
	Paged
}

type publishInput struct {
	TopicInput
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The id: a repeat within two minutes is stored once"`
	RawBody        []byte `contentType:"application/json"`
}

// Published is what came of a message to a topic.
type Published struct {
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}

type publishedOutput struct {
	Body Published
}

func (a *API) registerTopics() {
	register(a, row{
		method: http.MethodGet, path: "/v1/topics", id: "listTopics", tag: "Topics", summary: "List the topics that hold messages",
	}, func(ctx context.Context, c *call, in *topicsInput) (*listOutput[Topic], error) {
		after, bad := in.position()
		if bad != nil {
			return nil, bad
		}
		list, more, err := c.tenant.Ops.Topics(ctx, ops.TopicQuery{Text: in.Q, After: after, Limit: in.limit()})
		if err != nil {
			return nil, err
		}
		return page(list, more, func(t Topic) string { return t.Topic }), nil
	})
	register(a, row{
		method: http.MethodGet, path: "/v1/topics/{topic}", id: "readTopic", tag: "Topics", summary: "Read the messages of a topic",
	}, a.readTopic)
	register(a, row{
		method: http.MethodGet, path: "/v1/topics/{topic}/followers", id: "listFollowers", tag: "Topics", who: operators,
		summary: "List the connected devices that follow a topic", description: "By name. Devices on plain NATS are not known to follow.",
	}, a.listFollowers)
	register(a, row{
		method: http.MethodPost, path: "/v1/topics/{topic}", id: "publishToTopic", tag: "Topics", status: http.StatusAccepted,
		summary: "Publish a message to a topic", description: "The body is the data, any JSON value.",
		body: func(huma.Registry) *huma.Schema { return anyJSON("The data") },
	}, a.publishToTopic)
}

func (a *API) readTopic(ctx context.Context, c *call, in *readTopicInput) (*listOutput[TopicMessage], error) {
	if _, err := subjects.Topic(in.Topic); err != nil {
		return nil, badRequest(err.Error())
	}
	from, bad := in.sequence()
	if bad != nil {
		return nil, bad
	}
	var list []TopicMessage
	var next uint64
	var err error
	if in.Last && in.After == "" {
		list, err = c.tenant.Ops.LastOfTopic(ctx, in.Topic, in.limit(), listBytes)
	} else {
		list, next, err = c.tenant.Ops.TopicMessages(ctx, in.Topic, max(from, in.From), in.limit(), listBytes)
	}
	if err != nil {
		return nil, err
	}
	out := &listOutput[TopicMessage]{Body: List[TopicMessage]{Items: append([]TopicMessage{}, list...)}}
	if next > 0 {
		out.Body.Next = mark(seqString(next))
	}
	return out, nil
}

func (a *API) listFollowers(ctx context.Context, c *call, in *followersInput) (*listOutput[Follower], error) {
	after, bad := in.position()
	if bad != nil {
		return nil, bad
	}
	list, more, err := c.tenant.Ops.Followers(ctx, in.Topic, after, in.limit())
	if err != nil {
		return nil, err
	}
	return page(list, more, func(f Follower) string { return f.User + "/" + f.Device }), nil
}

func (a *API) publishToTopic(ctx context.Context, c *call, in *publishInput) (*publishedOutput, error) {
	subject, err := subjects.Topic(in.Topic)
	if err != nil {
		return nil, badRequest(err.Error())
	}
	if len(in.RawBody) > a.opts.MaxMessageBytes {
		return nil, a.tooLarge()
	}
	if !wire.EmbeddableInObject(in.RawBody) || !json.Valid(in.RawBody) {
		return nil, badRequest("the body is not one JSON value, nested no deeper than 9,997: a frame holds three levels more")
	}
	if in.IdempotencyKey != "" && !wire.ValidID(in.IdempotencyKey) {
		return nil, badRequest("Idempotency-Key: want 1 to 128 printable bytes without space at either end")
	}
	if c.tenant.Publish == nil {
		return nil, errors.New("api: nothing publishes to topics")
	}
	span, place := a.begin(c, trace.Publish, trace.Message{ID: in.IdempotencyKey, Type: wire.TypePublish, Topic: in.Topic})
	seq, duplicate, err := c.tenant.Publish(ctx, &Publication{
		Service: c.sender(), Subject: subject, ID: in.IdempotencyKey, Traceparent: place, Data: append([]byte(nil), in.RawBody...),
	})
	if span != nil {
		span.End(codeOf(err), time.Now())
	}
	if err != nil {
		return nil, err
	}
	return &publishedOutput{Body: Published{Seq: seq, Duplicate: duplicate}}, nil
}

func (a *API) tooLarge() *Problem {
	return ofWire(wire.Errorf(wire.MessageTooLarge, "the message is larger than %d bytes", a.opts.MaxMessageBytes))
}
