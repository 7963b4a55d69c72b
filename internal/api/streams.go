package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
)

type eventsInput struct {
	InTenant
	User        string   `query:"user" maxLength:"128" doc:"Only of this user"`
	Device      string   `query:"device" maxLength:"128" doc:"Only of devices of this name"`
	Kind        []string `query:"kind" maxItems:"16" enum:"registered,online,offline,delivered,expired,replaced,full,revoked,forgotten,undeliverable,rejected,badHeader" doc:"Only of these kinds, separated by commas"`
	After       string   `query:"after" pattern:"^[0-9]{1,19}$" doc:"Go on behind this id; without it and Last-Event-ID, from now on"`
	LastEventID string   `header:"Last-Event-ID" pattern:"^[0-9]{1,19}$" doc:"What an EventSource sends when it connects again; it wins"`
}

type liveInput struct {
	InTenant
	History bool `query:"history" doc:"Begin with an event history: the statistics of the last hour"`
	Payload bool `query:"payload" doc:"With tail: show payloads"`
}

func (a *API) registerStreams() {
	register(a, row{
		method: http.MethodGet, path: "/v1/events", id: "events", tag: "Events", summary: "Follow what happens to devices and messages",
		description: "Server-Sent Events: `event` is the kind, `data` the body of section 9 of the protocol, `id` the seq. Behind `Last-Event-ID`" +
			" or `after` it goes on over restarts, or begins with `event: gap`. A comment comes every 15 seconds.",
		responses: streamResponse("Server-Sent Events"),
	}, a.events)
	register(a, row{
		method: http.MethodGet, path: "/v1/live", id: "live", tag: "Events", who: operators, summary: "Statistics, and messages as they flow",
		description: "Server-Sent Events: `event: stats` once a second; with `tail=` or `tail=USER[/DEVICE]`, `event: message` as `rccs tail" +
			" --json` prints it. A client that is too slow gets `event: gap` in the place of what it missed.",
		responses: streamResponse("Server-Sent Events"), parameters: []*huma.Param{{
			Name: "tail", In: "query", AllowEmptyValue: true, Schema: &huma.Schema{Type: "string"},
			Description: "Also messages: of everybody if it is empty, of a USER, or of a USER/DEVICE",
		}},
	}, a.liveEvents)
}

func (a *API) events(ctx context.Context, c *call, in *eventsInput) (*streamOutput, error) {
	filters, bad := in.filters()
	if bad != nil {
		return nil, bad
	}
	opts := ops.EventOptions{Filters: filters}
	after := cmp.Or(in.LastEventID, in.After)
	var err error
	if after != "" {
		if opts.After, err = strconv.ParseUint(after, 10, 63); err != nil {
			return nil, badRequest("after: not an id of an event")
		}
	} else if opts.After, err = c.tenant.Ops.LastEvent(ctx); err != nil {
		return nil, err
	}
	return a.stream(c, func(ctx context.Context, f *flushed) error {
		opts.Each = func(e ops.Event) error { return f.event(e.Kind, seqString(e.Seq), e.Body) }
		opts.Gap = func(g ops.EventGap) error { return f.json("gap", seqString(g.To), g) }
		return c.tenant.Ops.Events(ctx, opts)
	})
}

// filters are the subjects of what is asked for.
func (in *eventsInput) filters() ([]string, *Problem) {
	user, device := "*", "*"
	if strings.Contains(in.User, "/") {
		return nil, badRequest("user: no user has a slash in the name")
	}
	for _, name := range []struct {
		kind, value string
		token       *string
	}{{"user", in.User, &user}, {"device", in.Device, &device}} {
		if name.value == "" {
			continue
		}
		if err := subjects.CheckName(name.kind, name.value); err != nil {
			return nil, badRequest(err.Error())
		}
		*name.token = subjects.Escape(name.value)
	}
	key := subjects.Key(user + "." + device)
	if len(in.Kind) == 0 {
		return []string{subjects.Event(key, "*")}, nil
	}
	filters := make([]string, 0, len(in.Kind))
	seen := make(map[string]bool)
	for _, kind := range in.Kind {
		if !seen[kind] {
			filters = append(filters, subjects.Event(key, kind))
		}
		seen[kind] = true
	}
	return filters, nil
}

func (a *API) liveEvents(ctx context.Context, c *call, in *liveInput) (*streamOutput, error) {
	var scope *subjects.Scope
	if tail, given := c.r.URL.Query()["tail"]; given {
		s, bad := scopeOf(tail[0])
		if bad != nil {
			return nil, bad
		}
		scope = &s
	}
	if scope != nil && c.r.Method != http.MethodHead {
		if err := c.tenant.Ops.Audit(ctx, c.record(audit.ActionRead, scope.String(), "tail")); err != nil {
			return nil, err
		}
	}
	return a.stream(c, func(ctx context.Context, f *flushed) error {
		return a.live.follow(ctx, c.tenant, f, in.History, scope, in.Payload)
	})
}

// scopeOf reads "", USER or USER/DEVICE.
func scopeOf(text string) (s subjects.Scope, bad *Problem) {
	if text == "" {
		return s, nil
	}
	if strings.Contains(text, "/") {
		a, err := subjects.ParseAddress(text)
		if err != nil {
			return s, badRequest("tail: " + err.Error())
		}
		return subjects.Scope(a), nil
	}
	if err := subjects.CheckName("user", text); err != nil {
		return s, badRequest("tail: " + err.Error())
	}
	return subjects.Scope{User: subjects.UserID(text)}, nil
}

// json writes an event whose data is a value.
func (f *flushed) json(kind, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.event(kind, id, data)
}
