package wire

import (
	"math"
	"strconv"
	"time"
)

// Request is the payload of a request.
type Request struct {
	Method string // 1 to 128 bytes without control characters
	// Params is one JSON value, as it was sent; nil is absent. After decoding
	// it aliases the payload.
	Params  []byte
	Timeout time.Duration // 0: the edge's default; whole milliseconds
}

// The fields of a request.
const (
	qMethod = iota
	qParams
	qTimeout
	requestFields
)

var requestNames = [requestFields]string{"payload.method", "payload.params", "payload.timeoutMs"}

func requestField(key []byte) int { return payloadField(requestNames[:], key) }

// DecodeRequest reads the payload of a request. The error is an [*Error] with
// BAD_MESSAGE that names the field.
func DecodeRequest(payload []byte) (Request, error) {
	d := decoder{b: payload, names: requestNames[:]}
	if !d.payload(TypeRequest, `{"method":"open","params":{}}`, requestField) {
		return Request{}, d.bad
	}
	r := Request{Method: d.needName(qMethod), Params: d.value(qParams)}
	ms := d.atMost(qTimeout, maxDurationMs, "a positive integer of milliseconds")
	r.Timeout = time.Duration(ms) * time.Millisecond
	if d.bad != nil {
		return Request{}, d.bad
	}
	return r, nil
}

// maxDurationMs is the longest duration there is, in whole milliseconds.
const maxDurationMs = math.MaxInt64 / int64(time.Millisecond)

// AppendPayload appends the payload alone.
func (r *Request) AppendPayload(dst []byte) []byte {
	dst = AppendString(append(dst, `{"method":`...), r.Method)
	dst = appendRaw(dst, `,"params":`, r.Params)
	if ms := r.Timeout.Milliseconds(); ms > 0 {
		dst = strconv.AppendInt(append(dst, `,"timeoutMs":`...), ms, 10)
	}
	return append(dst, '}')
}

// Response is the payload of a response, or of a part of one: whether more
// parts follow is in [Envelope.Partial].
type Response struct {
	// Result is one JSON value, as it was sent; nil when Failure is set. After
	// decoding it aliases the payload.
	Result  []byte
	Failure *Failure // nil when the request succeeded
}

// Failure is what a device answers to a request that it could not serve. It is
// the application's own: the code is not one of [Codes], but for what an
// application chooses.
type Failure struct {
	Code    string // 1 to 128 bytes on one line
	Message string // for people
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Message == "" {
		return f.Code
	}
	return f.Code + ": " + f.Message
}

// The fields of a response, and of the error in it.
const (
	nResult = iota
	nError
	responseFields
)

const (
	eCode = iota
	eMessage
	failureFields
)

var (
	responseNames = [responseFields]string{"payload.result", "payload.error"}
	failureNames  = [failureFields]string{"payload.error.code", "payload.error.message"}
)

// DecodeResponse reads the payload of a response. It holds a result or an
// error; null in the place of the other one is taken for absent. The error is
// an [*Error] with BAD_MESSAGE that names the field.
func DecodeResponse(payload []byte) (Response, error) {
	d := decoder{b: payload, names: responseNames[:]}
	index := func(key []byte) int { return payloadField(responseNames[:], key) }
	if !d.payload(TypeResponse, `{"result":{}} or {"error":{"code":"busy","message":"try later"}}`, index) {
		return Response{}, d.bad
	}
	var r Response
	switch failed, has := d.f[nError].given(), d.f[nResult].kind; {
	case failed && has > isNull:
		d.fail(nError, "absent when payload.result is there")
	case failed:
		r.Failure = d.failure()
	case has == absent:
		d.missing(nResult, "any JSON value, or payload.error in its place")
	default:
		r.Result = d.raw(nResult)
	}
	if d.bad != nil {
		return Response{}, d.bad
	}
	return r, nil
}

// failure reads the error of a response. A code may be a number, as in
// JSON-RPC; it is kept as its text.
func (d *decoder) failure() *Failure {
	const want = "a string of 1 to 128 bytes on one line"
	in := decoder{b: d.raw(nError), names: failureNames[:]}
	index := func(key []byte) int { return member(failureNames[:], "payload.error.", key) }
	if d.f[nError].kind != isObject || !in.object(index) {
		d.fail(nError, `an object such as {"code":"busy","message":"try later"}`)
		return nil
	}
	f := &Failure{}
	if in.f[eCode].kind == isNumber {
		f.Code = string(in.raw(eCode))
	} else {
		in.need(eCode, want)
		f.Code = in.prose(eCode)
	}
	if len(f.Code) == 0 || len(f.Code) > MaxID || !oneLine(f.Code) {
		in.fail(eCode, want)
	}
	f.Message = in.prose(eMessage)
	if d.bad == nil {
		d.bad = in.bad
	}
	return f
}

// AppendPayload appends the payload alone.
func (r *Response) AppendPayload(dst []byte) []byte {
	if r.Failure != nil {
		dst = AppendString(append(dst, `{"error":{"code":`...), r.Failure.Code)
		dst = AppendString(append(dst, `,"message":`...), r.Failure.Message)
		return append(dst, "}}"...)
	}
	dst = append(dst, `{"result":`...)
	if r.Result == nil {
		dst = append(dst, "null"...)
	}
	return append(append(dst, r.Result...), '}')
}

// TaskID is the taskId in the payload of a task message, "" when there is none
// or it is not a string. payload must be one JSON value, as decoding a frame
// leaves it; nothing of it is parsed but the members of the outermost object.
func TaskID(payload []byte) string {
	var f [1]span
	s := scanner{b: payload}
	s.space()
	if s.peek() != '{' || !s.members(insideEnvelope+1, f[:], taskField) || f[0].kind != isString {
		return ""
	}
	raw := payload[f[0].at+1 : f[0].end-1]
	if f[0].escaped {
		if text, whole := unquote(make([]byte, 0, len(raw)), raw); whole {
			return string(text)
		} // else as it is written, so that no two tasks become one
	}
	return string(raw)
}

func taskField(key []byte) int {
	if string(key) == "taskId" {
		return 0
	}
	return -1
}
