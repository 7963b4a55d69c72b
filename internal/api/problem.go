package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/ops"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Codes beside those of the protocol.
const (
	codeUnauthorized     = "UNAUTHORIZED"
	codeNotFound         = "NOT_FOUND"
	codeMethodNotAllowed = "METHOD_NOT_ALLOWED"
	codeConflict         = "CONFLICT"
	codeUnsupportedMedia = "UNSUPPORTED_MEDIA_TYPE"
	codeMisdirected      = "MISDIRECTED"
	codeDeviceError      = "DEVICE_ERROR"
)

// Problem is an error as clients get it, RFC 9457.
type Problem struct {
	Title  string `json:"title" doc:"The status in words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Code   string `json:"code" doc:"What went wrong, from a closed set: a code of the protocol or of this API"`
	Detail string `json:"detail,omitempty" doc:"For people: what exactly, and what to do"`
	// RetryAfterMs says when to try again, where that makes sense.
	RetryAfterMs int64 `json:"retryAfterMs,omitempty" doc:"How long to wait before the next attempt, in milliseconds"`
	// DeviceError is a device's own answer to a request.
	DeviceError *DeviceError `json:"deviceError,omitempty" doc:"The device's own error"`
	// Unacknowledged is how many messages stand in the way.
	Unacknowledged uint64 `json:"unacknowledged,omitempty" doc:"How many messages are not acknowledged, or delayed"`
}

// DeviceError is the error that a device answered a request with.
type DeviceError struct {
	Code    string `json:"code" doc:"The device's own code"`
	Message string `json:"message" doc:"The device's own message"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus implements [huma.StatusError].
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements [huma.ContentTypeFilter].
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// GetHeaders implements [huma.HeadersError].
func (p *Problem) GetHeaders() http.Header {
	h := make(http.Header)
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		wait := max(time.Duration(p.RetryAfterMs)*time.Millisecond, time.Second)
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="rccs"`)
	}
	return h
}

// write answers with the problem outside of huma.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func problem(status int, code, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func badRequest(detail string) *Problem {
	return problem(http.StatusBadRequest, string(wire.BadMessage), detail)
}

func notFound(detail string) *Problem { return problem(http.StatusNotFound, codeNotFound, detail) }

func conflict(detail string) *Problem { return problem(http.StatusConflict, codeConflict, detail) }

func denied(detail string) *Problem {
	return problem(http.StatusForbidden, string(wire.PermissionDenied), detail)
}

func unavailable(detail string) *Problem {
	p := problem(http.StatusServiceUnavailable, string(wire.Unavailable), detail)
	p.RetryAfterMs = time.Second.Milliseconds()
	return p
}

// statusOf is the HTTP status of a code of the protocol.
func statusOf(code wire.Code) int {
	switch code {
	case wire.BadFrame, wire.BadMessage:
		return http.StatusBadRequest
	case wire.AuthRequired, wire.AuthError, wire.TokenExpired, wire.DeviceRevoked:
		return http.StatusUnauthorized
	case wire.PermissionDenied, wire.IdentityMismatch:
		return http.StatusForbidden
	case wire.DeviceNotFound:
		return http.StatusNotFound
	case wire.MessageTooLarge:
		return http.StatusRequestEntityTooLarge
	case wire.QueueFull, wire.RateLimited:
		return http.StatusTooManyRequests
	case wire.Unavailable, wire.DeviceOffline:
		return http.StatusServiceUnavailable
	case wire.Timeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// ofWire is the problem for an error of the protocol.
func ofWire(e *wire.Error) *Problem {
	status := statusOf(e.Code)
	p := problem(status, string(e.Code), e.Text())
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		p.RetryAfterMs = max(e.RetryAfter, time.Second).Milliseconds()
	}
	return p
}

// problemOf is what a client hears of an error, which is logged in full where
// the client hears less.
func (a *API) problemOf(err error) *Problem {
	var p *Problem
	var told *wire.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &told):
		return ofWire(told)
	case errors.Is(err, subjects.ErrName):
		return badRequest(err.Error())
	case errors.Is(err, ops.ErrUnknownDevice):
		return problem(http.StatusNotFound, string(wire.DeviceNotFound), "no such device: it never registered, and nothing is stored for it")
	case errors.Is(err, ops.ErrNoMessage):
		return notFound("no message of this id is stored")
	case errors.Is(err, ops.ErrConnected):
		return conflict(err.Error())
	case errors.Is(err, context.Canceled):
		return unavailable("the request was given up")
	}
	a.log.Warn("request failed", "err", err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, ops.ErrNoCoordinator) {
		return unavailable("the message store does not answer, try again")
	}
	return unavailable("this could not be done now, try again; the log of the server says why")
}

// ofHuma turns what huma found wrong with a request into a problem.
func ofHuma(m *huma.ErrorModel) *Problem {
	status, code := m.Status, string(wire.BadMessage)
	switch status {
	case http.StatusUnprocessableEntity, http.StatusRequestTimeout:
		status = http.StatusBadRequest
	case http.StatusRequestEntityTooLarge:
		code = string(wire.MessageTooLarge)
	case http.StatusUnsupportedMediaType:
		code = codeUnsupportedMedia
	case http.StatusInternalServerError: // the body could not be read
		status = http.StatusBadRequest
	}
	said := make([]string, 0, len(m.Errors))
	for _, e := range m.Errors {
		text := e.Message
		if e.Location != "" {
			text = e.Location + ": " + text // never the value: it may be a secret
		}
		said = append(said, text)
	}
	detail := m.Detail
	if len(said) > 0 {
		detail = strings.Join(said, "; ")
	}
	return problem(status, code, detail)
}
