package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// A publisher can store headers that are none, and nats.go then hands over a
// part of a Direct Get without any, the server's own included. Such a message
// is read through the stream's older API, which sends headers and data apart:
// one bad message must not stand in front of an inbox for ever. It reaches the
// device without what its headers said.

// rawRequest is the body of $JS.API.STREAM.MSG.GET.
type rawRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
}

// raw reads one message; nil if there is none.
func (f *fetcher) raw(ctx context.Context, stream string, req rawRequest) (*stored, error) {
	body, err := json.Marshal(&req)
	if err != nil {
		return nil, err
	}
	answer, err := f.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, fmt.Errorf("inbox: read a message of %s: %w", stream, err)
	}
	var got struct {
		Error   *StoreError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Headers []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("inbox: read a message of %s: %w", stream, err)
	}
	switch {
	case got.Error != nil && got.Error.Code == 404:
		return nil, nil
	case got.Error != nil:
		return nil, got.Error
	case got.Message == nil:
		return nil, fmt.Errorf("inbox: read a message of %s: the answer holds none", stream)
	}
	m := got.Message
	header, err := nats.DecodeHeadersMsg(m.Headers)
	if err != nil {
		header = nil
	}
	return &stored{
		subject: m.Subject, seq: m.Seq, time: m.Time.UnixNano(),
		msg: &nats.Msg{Subject: m.Subject, Header: header, Data: m.Data},
	}, nil
}
