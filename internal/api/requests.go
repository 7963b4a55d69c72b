package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rccs-io/rccs/internal/trace"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

type requestInput struct {
	OfDevice
	Method    string `path:"method" maxLength:"128" doc:"The method, percent-encoded once" example:"file.open"`
	TimeoutMs int64  `query:"timeoutMs" minimum:"1" doc:"How long to wait for the answer, or for its next part: 10 s by default, at most 5 min"`
	Accept    string `header:"Accept" doc:"application/json, application/x-ndjson or text/event-stream"`
	RawBody   []byte `contentType:"application/json"`
}

const ndjson = "application/x-ndjson"

func (a *API) registerRequests() {
	register(a, row{
		method: http.MethodPost, path: "/v1/users/{user}/devices/{device}/requests/{method}", id: "request", tag: "Requests",
		summary: "Ask a connected device",
		description: "The body is the params, any JSON value; none is null. The answer is the result. With `Accept: application/x-ndjson` each" +
			" part comes as a line `{\"result\": …}`, with `text/event-stream` as `data:` of the same; an error after the first part is a last" +
			" line `{\"error\": problem}` or `event: error`. A client that goes away cancels the request.",
		body: func(huma.Registry) *huma.Schema { return anyJSON("The params") }, optional: true, waits: true,
		responses: map[string]*huma.Response{"200": {
			Description: "The result", Content: map[string]*huma.MediaType{
				jsonType: {Schema: anyJSON("The result")}, ndjson: {Schema: &huma.Schema{Type: "string"}}, eventStream: {Schema: &huma.Schema{Type: "string"}},
			},
		}},
	}, a.request)
}

func (a *API) request(ctx context.Context, c *call, in *requestInput) (*streamOutput, error) {
	to, bad := in.address()
	if bad != nil {
		return nil, bad
	}
	if err := subjects.CheckName("method", in.Method); err != nil {
		return nil, badRequest(err.Error())
	}
	params := append([]byte(nil), in.RawBody...)
	switch {
	case len(params) == 0:
		params = []byte("null")
	case len(params) > a.opts.MaxMessageBytes:
		return nil, a.tooLarge()
	case !wire.EmbeddableInObject(params) || !json.Valid(params):
		return nil, badRequest("the body is not one JSON value, nested no deeper than 9,997: a frame holds three levels more")
	}
	release, ok := a.bounds.asks.TryAcquire(c.requester(), 1)
	if !ok {
		return nil, tooMany("too many requests of yours wait for devices")
	}
	if _, err := c.tenant.Ops.Device(ctx, to); err != nil {
		release()
		return nil, a.problemOf(err)
	}
	ctl := http.NewResponseController(c.w)
	_ = ctl.SetReadDeadline(time.Time{}) // the server's own would end the request
	ctx, cancel := context.WithCancel(ctx)
	ended := context.AfterFunc(a.ctx, cancel)
	span, place := a.begin(c, trace.Request, trace.Message{Type: wire.TypeRequest, User: in.User, To: in.Device, Method: in.Method})
	asked, err := ask(ctx, c.tenant.Core, &question{
		from: c.sender(), proof: c.tenant.Proof, to: to, method: in.Method, params: params, timeout: time.Duration(min(in.TimeoutMs, maxTimeoutMs)) * time.Millisecond,
		place: place, span: span,
	})
	done := func() { asked.close(); ended(); cancel(); release() }
	if err != nil {
		done()
		return nil, a.problemOf(err)
	}
	first, err := asked.next(ctx)
	if err != nil {
		done()
		return nil, a.answerProblem(err)
	}
	return &streamOutput{Body: func(huma.Context) {
		defer done()
		a.answer(ctx, c, asked, first, in.Accept)
	}}, nil
}

// maxTimeoutMs is the longest that a request may wait for a part.
const maxTimeoutMs = 300_000

// answer writes the parts of an answer as they come, in the form that the
// client accepts.
func (a *API) answer(ctx context.Context, c *call, asked *asking, first part, accept string) {
	streamed := preferred(accept)
	if streamed == "" {
		// Without a form for parts the last one is the result, as for services.
		for !first.last {
			next, err := asked.next(ctx)
			if err != nil {
				a.answerProblem(err).write(c.w)
				return
			}
			first = next
		}
		c.w.Header().Set("Content-Type", jsonType)
		_, _ = c.w.Write(first.result)
		return
	}
	f := newFlushed(c.w, streamed)
	line := func(member string, value []byte) error {
		text := fmt.Appendf(nil, `{%q:%s}`, member, compact(value))
		switch {
		case streamed == ndjson:
			return f.write(string(text) + "\n")
		case member == "error":
			return f.event("error", "", compact(value))
		}
		return f.event("", "", text)
	}
	for p := first; ; {
		if line("result", p.result) != nil || p.last {
			return
		}
		var err error
		if p, err = asked.next(ctx); err != nil {
			text, _ := json.Marshal(a.answerProblem(err))
			_ = line("error", text)
			return
		}
	}
}

// compact puts JSON on one line.
func compact(value []byte) []byte {
	var b strings.Builder
	inString, escaped := false, false
	for _, c := range value {
		if !inString && (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			continue
		}
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		}
		b.WriteByte(c)
	}
	return []byte(b.String())
}

// preferred returns the form for parts that the client accepts; empty: none. The
// highest quality (q) decides; of several it is the first, and JSON the last.
func preferred(accept string) string {
	form, highest, ofJSON := "", 0.0, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		kind, params, err := mime.ParseMediaType(part)
		quality := 1.0
		if q, ok := params["q"]; ok && err == nil {
			quality, err = strconv.ParseFloat(q, 64)
		}
		switch {
		case err != nil:
		case kind == jsonType:
			ofJSON = quality
		case (kind == ndjson || kind == eventStream) && quality > highest:
			form, highest = kind, quality
		}
	}
	if ofJSON > highest {
		return ""
	}
	return form
}

// answerProblem is what a client hears of a request that was not answered.
func (a *API) answerProblem(err error) *Problem {
	if failure, ok := errors.AsType[*wire.Failure](err); ok {
		p := problem(http.StatusBadGateway, codeDeviceError, "the device answered with an error")
		p.DeviceError = &DeviceError{Code: failure.Code, Message: failure.Message}
		return p
	}
	return a.problemOf(err)
}
