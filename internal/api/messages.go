package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// maxPosts is how many messages one request may hold.
const maxPosts = 1000

type sendInput struct {
	InTenant
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"The id of a message that has none: a repeat within two minutes is stored once"`
	RawBody        []byte `contentType:"application/json"`
}

// Message is a message to devices, as the document shows it; [wire.DecodePosts]
// reads it.
type Message struct {
	To            Target          `json:"to"`
	Type          string          `json:"type" pattern:"^[a-z][a-z0-9_.-]{0,63}$" doc:"The application's own" example:"approval"`
	Payload       json.RawMessage `json:"payload" doc:"Any JSON value, carried byte for byte"`
	ID            string          `json:"id,omitempty" minLength:"1" maxLength:"128" doc:"Unique for the sender: a repeat within two minutes is stored once. Made here if there is none"`
	Priority      Priority        `json:"priority,omitempty"`
	TTLMs         int64           `json:"ttlMs,omitempty" minimum:"1" doc:"Not delivered after this age"`
	DeliverAt     *time.Time      `json:"deliverAt,omitempty" doc:"Stored now, delivered then"`
	CollapseKey   string          `json:"collapseKey,omitempty" maxLength:"128" doc:"Replaces an earlier message with the same key that was not sent yet"`
	CorrelationID string          `json:"correlationId,omitempty" maxLength:"128" doc:"Carried through"`
	Ephemeral     bool            `json:"ephemeral,omitempty" doc:"Never stored: reaches devices that are connected now"`
}

// Target says whom a message is for: a user, and of the user's devices one, or
// those of a type or with a capability; all of them, or any one.
type Target struct {
	User       string `json:"user" minLength:"1" maxLength:"128"`
	Device     string `json:"device,omitempty" maxLength:"128"`
	DeviceType string `json:"deviceType,omitempty" maxLength:"128"`
	Capability string `json:"capability,omitempty" maxLength:"128"`
	Mode       string `json:"mode,omitempty" enum:"all,any"`
}

// Priority is a lane by number or name.
type Priority uint8

// Schema implements [huma.SchemaProvider].
func (Priority) Schema(huma.Registry) *huma.Schema {
	low, high := 0.0, 3.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Minimum: &low, Maximum: &high},
		{Type: huma.TypeString, Enum: []any{"low", "normal", "high", "critical"}},
	}, Description: "The lane: 0 to 3 or its name; normal by default"}
}

// Recipient is a device for which a message was stored.
type Recipient struct {
	DeviceID string `json:"deviceId"`
	Seq      uint64 `json:"seq,omitempty" doc:"Absent while the message waits until deliverAt, and of one that is never stored"`
}

// Sent is what came of a message.
type Sent struct {
	ID         string      `json:"id"`
	Duplicate  bool        `json:"duplicate" doc:"A repeat of a message that was accepted before"`
	Recipients []Recipient `json:"recipients" nullable:"false" doc:"Empty while the message waits for a device to come online"`
}

// Outcome is what came of one message of an array: as for the message alone, or
// the error.
type Outcome struct {
	*Sent
	Error *Problem `json:"error,omitempty"`
}

type lifeInput struct {
	OfUser
	ID    string `path:"id" maxLength:"128" doc:"The message's id, percent-encoded once" example:"order-17"`
	Since string `query:"since" maxLength:"64" doc:"How far to look back: a duration such as 1h or 30d, or a time of RFC 3339; without it, to the beginning"`
}

// Life is the life of a message.
type Life struct {
	ID    string         `json:"id"`
	Steps []ops.LifeStep `json:"steps" nullable:"false"`
}

type lifeOutput struct {
	Body Life
}

type cancelOutput struct {
	Body struct {
		Cancelled uint64 `json:"cancelled" doc:"How many copies were taken back"`
	}
}

func (a *API) registerMessages() {
	post := func(r huma.Registry) *huma.Schema {
		one := r.Schema(reflect.TypeFor[Message](), true, "")
		most := maxPosts
		return &huma.Schema{OneOf: []*huma.Schema{one, {Type: huma.TypeArray, Items: one, MaxItems: &most}}}
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	responses := map[string]*huma.Response{
		"202": {Description: "One message, stored", Content: map[string]*huma.MediaType{jsonType: {Schema: schemas.Schema(reflect.TypeFor[Sent](), true, "")}}},
		"200": {Description: "An array: what came of each", Content: map[string]*huma.MediaType{jsonType: {
			Schema: &huma.Schema{Type: huma.TypeArray, Items: schemas.Schema(reflect.TypeFor[Outcome](), true, "")},
		}}},
		"429": problemResponse(http.StatusTooManyRequests),
	}
	register(a, row{
		method: http.MethodPost, path: "/v1/messages", id: "sendMessages", tag: "Messages", status: http.StatusAccepted,
		summary: "Send a message to devices, or up to 1,000",
		description: "Answered once it is stored; what becomes of it afterwards comes as an event. An array is answered by an array of the same" +
			" length. A named device that never registered is 404: unlike on NATS nothing waits for it.",
		body: post, responses: responses,
	}, a.send)
	register(a, row{
		method: http.MethodGet, path: "/v1/users/{user}/messages/{id}", id: "traceMessage", tag: "Messages", summary: "Show the life of a message",
		description: "Ids are not indexed: the headers of what is stored for the user are searched.",
	}, a.life)
	register(a, row{
		method: http.MethodDelete, path: "/v1/users/{user}/messages/{id}", id: "cancelMessage", tag: "Messages", summary: "Cancel a delayed message",
		description: "0 when none of the id waits: it may just have been delivered.",
	}, a.cancelMessage)
}

func (a *API) send(ctx context.Context, c *call, in *sendInput) (*streamOutput, error) {
	if in.IdempotencyKey != "" && !wire.ValidID(in.IdempotencyKey) {
		return nil, badRequest("Idempotency-Key: want 1 to 128 printable bytes without space at either end")
	}
	posts, array, werr := wire.DecodePosts(in.RawBody, maxPosts)
	switch {
	case werr != nil:
		return nil, ofWire(werr)
	case array && in.IdempotencyKey != "":
		return nil, badRequest("Idempotency-Key is of one message: give each of an array an id")
	}
	outcomes := make([]Outcome, len(posts))
	var sending sync.WaitGroup
	now, place := wire.FormatTime(a.opts.Now()), c.traceparent()
	for i := range posts {
		p := &posts[i]
		if p.Err == nil && p.Size > a.opts.MaxMessageBytes {
			p.Err = wire.Errorf(wire.MessageTooLarge, "the message is larger than %d bytes", a.opts.MaxMessageBytes)
		}
		if p.Err == nil {
			p.Err = checkPost(p)
		}
		if p.Err != nil {
			outcomes[i].Error = ofWire(p.Err)
			continue
		}
		if p.ID == "" {
			if p.ID = in.IdempotencyKey; p.ID == "" {
				p.ID = nuid.Next()
			}
		}
		p.Timestamp, p.Traceparent = now, place
		sending.Add(1)
		from := send.Service(c.sender(), p.User)
		from.IssuedTo = c.service.IssuedTo
		c.tenant.Intake.Start(ctx, from, &p.Envelope, &waiter{&outcomes[i], p.ID, &sending})
	}
	sending.Wait()
	if array {
		return written(c, http.StatusOK, outcomes), nil
	}
	if outcomes[0].Error != nil {
		return nil, outcomes[0].Error
	}
	return written(c, http.StatusAccepted, outcomes[0].Sent), nil
}

// waiter writes down what became of one message.
type waiter struct {
	outcome *Outcome
	id      string
	sending *sync.WaitGroup
}

// Sent implements [send.Waiter].
func (w *waiter) Sent(r send.Result) {
	defer w.sending.Done()
	switch {
	case r.Err != nil:
		w.outcome.Error = ofWire(r.Err)
	case r.Accepted != nil:
		w.outcome.Sent = sent(w.id, r.Accepted)
	default:
		w.outcome.Sent = &Sent{ID: w.id, Recipients: []Recipient{}}
	}
}

// checkPost looks at the names of a post.
func checkPost(p *wire.Post) *wire.Error {
	address := subjects.Address{User: p.User, Device: p.To.Device}
	if p.To.Device == "" {
		address.Device = "any"
	}
	if err := address.Check(); err != nil {
		return wire.NewError(wire.BadMessage, "to: "+err.Error())
	}
	return nil
}

func sent(id string, a *wire.Accepted) *Sent {
	s := &Sent{ID: id, Duplicate: a.Duplicate, Recipients: make([]Recipient, len(a.Recipients))}
	for i, r := range a.Recipients {
		s.Recipients[i] = Recipient{DeviceID: string(r.DeviceID), Seq: r.Seq}
	}
	return s
}

// written is an answer as JSON that the library need not look at again.
func written(c *call, status int, v any) *streamOutput {
	return &streamOutput{Body: func(huma.Context) {
		c.w.Header().Set("Content-Type", jsonType)
		c.w.WriteHeader(status)
		enc := json.NewEncoder(c.w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v)
	}}
}

func (in *lifeInput) message() (subjects.UserID, *Problem) {
	user, bad := in.user()
	if bad == nil && !wire.ValidID(in.ID) {
		bad = badRequest("id: want 1 to 128 printable bytes without space at either end")
	}
	return user, bad
}

func (a *API) life(ctx context.Context, c *call, in *lifeInput) (*lifeOutput, error) {
	user, bad := in.message()
	if bad != nil {
		return nil, bad
	}
	since, bad := a.since(in.Since)
	if bad != nil {
		return nil, bad
	}
	trace, err := c.tenant.Ops.Trace(ctx, ops.TraceOptions{ID: in.ID, Scope: subjects.Scope{User: user}, Since: since})
	if err != nil {
		return nil, err
	}
	return &lifeOutput{Body: Life{ID: trace.ID, Steps: trace.Life()}}, nil
}

func (a *API) cancelMessage(ctx context.Context, c *call, in *struct {
	OfUser
	ID string `path:"id" maxLength:"128" doc:"The message's id, percent-encoded once"`
},
) (*cancelOutput, error) {
	life := lifeInput{OfUser: in.OfUser, ID: in.ID}
	user, bad := life.message()
	if bad != nil {
		return nil, bad
	}
	n, err := c.tenant.Ops.CancelLater(ctx, user, in.ID)
	out := &cancelOutput{}
	out.Body.Cancelled = n
	return out, err
}
