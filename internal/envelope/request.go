package envelope

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Headers of an error in answer to a request (ADR-32), which services read.
const (
	headerError     = "Nats-Service-Error"
	headerErrorCode = "Nats-Service-Error-Code"
)

// Request is a device's request to a device; the caller sets the reply
// subject. body is the parameters, one JSON value or nothing.
func Request(e *wire.Envelope, from Sender, to subjects.Key, method string, timeout time.Duration, body []byte) *nats.Msg {
	h := common(e, from)
	if from.Proof != nil {
		h.set(layout.HeaderProof, from.Proof.Tag(proof.Sender, from.Key.User(), string(from.Device), e.ID))
	}
	h.set(subjects.HeaderTimeout, strconv.FormatInt(timeout.Milliseconds(), 10))
	return &nats.Msg{Subject: subjects.RPC(to, method), Header: h.h, Data: body}
}

// Cancel says that the request id is given up.
func Cancel(id string, from Sender, to subjects.Key, method string) *nats.Msg {
	h := newHeaders()
	h.set(subjects.HeaderCancel, id)
	h.set(subjects.HeaderFrom, string(from.Device))
	return &nats.Msg{Subject: subjects.RPC(to, method), Header: h.h}
}

// Refusal answers a request with an error of RCCS itself: a device is told its
// code, a service finds it where NATS services put errors.
func Refusal(reply string, err *wire.Error) *nats.Msg {
	h := newHeaders()
	h.set(subjects.HeaderError, string(err.Code))
	h.set(headerError, err.Text())
	var status string
	switch err.Code {
	case wire.MessageTooLarge:
		status = "413"
	case wire.BadMessage:
		status = "400"
	default:
		status = "503"
	}
	h.set(headerErrorCode, status)
	return &nats.Msg{Subject: reply, Header: h.h}
}

// Response is a device's response e, or a part of one. A device that asked
// gets the payload as it is; a service gets the result alone, and an error in
// headers.
func Response(e *wire.Envelope, from Sender, reply string, toDevice bool) (*nats.Msg, error) {
	m := &nats.Msg{Subject: reply}
	h := common(e, from)
	if e.Partial {
		h.set(subjects.HeaderPartial, "true")
	}
	if toDevice {
		m.Data = append([]byte(nil), e.Payload...)
		m.Header = h.h
		return m, nil
	}
	r, err := wire.DecodeResponse(e.Payload)
	if err != nil {
		return nil, err
	}
	if r.Failure != nil {
		h.set(headerErrorCode, r.Failure.Code)
		h.set(headerError, r.Failure.Message)
	} else {
		m.Data = append([]byte(nil), r.Result...)
	}
	m.Header = h.h
	return m, nil
}
