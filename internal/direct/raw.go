package direct

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A publisher can store headers that are none, or that end too early, and nats.go
// then hands over a part of a Direct Get without the server's own. Such a message
// is read through the stream's older API, which sends headers and data apart:
// one bad message must not stand in front of an inbox for ever. It reaches the
// device without what headers said that cannot be read.

// rawRequest is the body of $JS.API.STREAM.MSG.GET.
type rawRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// raw reads one message; nil if there is none.
func (c *Client) raw(ctx context.Context, stream string, req rawRequest) (*Stored, error) {
	req.NextFor, req.LastFor = c.shard.Stored(req.NextFor), c.shard.Stored(req.LastFor)
	body, err := json.Marshal(&req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+c.shard.Stream(stream), body)
	if err != nil {
		return nil, fmt.Errorf("direct: read a message of %s: %w", stream, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Headers []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("direct: read a message of %s: %w", stream, err)
	}
	switch {
	case got.Error != nil && got.Error.Code == 404:
		return nil, nil
	case got.Error != nil:
		return nil, got.Error
	case got.Message == nil:
		return nil, fmt.Errorf("direct: read a message of %s: the answer holds none", stream)
	}
	m := got.Message
	header, err := nats.DecodeHeadersMsg(m.Headers)
	if err != nil {
		header = nil
	}
	c.shard.PlainHeader(m.Subject, header)
	return &Stored{Subject: c.shard.Plain(m.Subject), Seq: m.Seq, Time: m.Time.UnixNano(), Header: header, Data: m.Data}, nil
}

// AtLeader asks the stream's leader for the first message of a literal subject at
// seq or later; nil if there is none. A replica that lags behind may answer Next
// without what was stored last.
func (c *Client) AtLeader(ctx context.Context, stream, subject string, seq uint64) (*Stored, error) {
	return c.raw(ctx, stream, rawRequest{Seq: max(seq, 1), NextFor: subject})
}

// AtLeaderSince is [Client.AtLeader] for the first message stored at a time or later.
func (c *Client) AtLeaderSince(ctx context.Context, stream, subject string, at time.Time) (*Stored, error) {
	at = at.UTC()
	return c.raw(ctx, stream, rawRequest{NextFor: subject, StartTime: &at})
}

// One asks the stream's leader for the message with a sequence; nil if there is none.
func (c *Client) One(ctx context.Context, stream string, seq uint64) (*Stored, error) {
	return c.raw(ctx, stream, rawRequest{Seq: seq})
}

// Holds reports whether there is a message that [Client.AtLeader] would return.
func (c *Client) Holds(ctx context.Context, stream, subject string, seq uint64) (bool, error) {
	m, err := c.AtLeader(ctx, stream, subject, seq)
	return m != nil, err
}
