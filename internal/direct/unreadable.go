package direct

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of what Unreadable reads at a time, and in all.
const (
	countBatch = 256
	countBytes = 4 << 20
	countMost  = 50_000
)

// Unreadable reports whether messages of a literal subject, between two sequences,
// were damaged while the server ran. The server passes over what it cannot read in
// its answers, and not in its counts, or it says that it has lost something there.
// Unreadable reads all that is stored on the subject, so ask only if something is
// missing. If that is very much, it does not find out, and reports false.
func (c *Client) Unreadable(ctx context.Context, stream, subject string, from, to uint64) (bool, error) {
	// What is stored or removed meanwhile is in one of the two countings.
	before, err := c.readable(ctx, stream, subject)
	if err != nil || before >= countMost {
		return false, err
	}
	total, lost, err := c.total(ctx, stream, subject)
	if err != nil || before >= total {
		return slices.ContainsFunc(lost, func(seq uint64) bool { return from <= seq && seq <= to }), err
	}
	after, err := c.readable(ctx, stream, subject)
	return err == nil && after < total, err
}

// readable counts the messages of a subject by reading them.
func (c *Client) readable(ctx context.Context, stream, subject string) (n int, err error) {
	for from := uint64(1); n < countMost; {
		msgs, left, err := c.Next(ctx, stream, subject, from, countBatch, countBytes)
		if err != nil {
			return 0, err
		}
		n += len(msgs)
		if left == 0 || len(msgs) == 0 {
			break
		}
		from = msgs[len(msgs)-1].Seq + 1
	}
	return n, nil
}

// total returns how many messages the store counts on a subject, and which messages
// of the stream it has lost since it was opened.
func (c *Client) total(ctx context.Context, stream, subject string) (n int, lost []uint64, err error) {
	body, err := json.Marshal(map[string]string{"subjects_filter": c.shard.Stored(subject)})
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+c.shard.Stream(stream), body)
	if err != nil {
		return 0, nil, fmt.Errorf("direct: count the messages of %s: %w", subject, err)
	}
	var got struct {
		Error *jetstream.APIError `json:"error"`
		State struct {
			Subjects map[string]int `json:"subjects"`
			Lost     struct {
				Msgs []uint64 `json:"msgs"`
			} `json:"lost"`
		} `json:"state"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return 0, nil, fmt.Errorf("direct: count the messages of %s: %w", subject, err)
	}
	if got.Error != nil {
		return 0, nil, fmt.Errorf("direct: count the messages of %s: %w", subject, got.Error)
	}
	return got.State.Subjects[c.shard.Stored(subject)], got.State.Lost.Msgs, nil
}
