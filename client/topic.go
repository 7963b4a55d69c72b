package client

import (
	"context"
	"fmt"
	"iter"

	"github.com/rccs-io/rccs/wire"
)

// Publish stores a message in a topic and returns its seq. Of the options, only
// [WithID] and [WithTraceparent] apply.
func (c *Client) Publish(ctx context.Context, topic string, data any, opts ...SendOption) (wire.Published, error) {
	raw, err := encodeJSON(data)
	if err != nil {
		return wire.Published{}, fmt.Errorf("client: data for topic %s: %w", topic, err)
	}
	if !wire.EmbeddableInObject(raw) {
		return wire.Published{}, wire.NewError(wire.BadMessage, "data must be one JSON value")
	}
	p := wire.Publish{Topic: topic, Data: raw}
	e := wire.Envelope{ID: newID(), Type: wire.TypePublish, Payload: p.AppendPayload(nil)}
	for _, o := range opts {
		o.apply(&e)
	}
	r, err := c.call(ctx, &e)
	if err != nil {
		return wire.Published{}, err
	}
	return wire.Published{OriginalID: e.ID, Topic: r.answer.Topic, Seq: r.answer.Seq, Duplicate: r.answer.Duplicate}, nil
}

// History reads what is stored of a topic or of the device's own inbox, page after
// page, from h.From on. It acknowledges nothing. h.Limit is how many messages a page
// has. An error ends the iteration.
func (c *Client) History(ctx context.Context, h wire.History) iter.Seq2[*wire.Envelope, error] {
	return func(yield func(*wire.Envelope, error) bool) {
		for {
			page, next, err := c.page(ctx, h)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if page[i].Err != nil {
					c.opts.Logger.Error("stored message cannot be read", "err", page[i].Err)
				} else if !yield(&page[i].Envelope, nil) {
					return
				}
			}
			if next <= h.From {
				return
			}
			h.From = next
		}
	}
}

// page returns one page of a history; next is 0 when there is no more.
func (c *Client) page(ctx context.Context, h wire.History) (page []wire.Item, next uint64, err error) {
	r, err := c.control(ctx, wire.TypeHistory, h.AppendPayload(nil))
	if err != nil {
		return nil, 0, err
	}
	p, err := wire.DecodeHistoryPage(r.payload)
	if err != nil {
		return nil, 0, fmt.Errorf("client: answer to history: %w", err)
	}
	if p.Messages != nil {
		page, err = wire.DecodeFrame(nil, p.Messages)
	}
	return page, p.Next, err
}
