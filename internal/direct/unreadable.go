package direct

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

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
	// What is removed meanwhile is in the first counting, and what is stored is in the
	// second, or left out of the store's counts.
	before, last, err := c.readable(ctx, stream, subject)
	if err != nil || before >= countMost {
		return false, err
	}
	total, lost, copies, err := c.total(ctx, stream, subject)
	if err != nil || before >= total {
		return slices.ContainsFunc(lost, func(seq uint64) bool { return from <= seq && seq <= to }), err
	}
	if copies > 1 { // one copy may have what another lacks still
		after, _, err := c.readable(ctx, stream, subject)
		return err == nil && after < total, err
	}
	for range upToTries {
		all, later, err := c.upTo(ctx, stream, subject, last)
		if err != nil {
			return false, err
		}
		if before < all-later {
			again, _, err := c.upTo(ctx, stream, subject, last)
			return err == nil && again >= all, err // otherwise something was removed between two questions
		}
	}
	return false, nil
}

// readable counts the messages of a subject by reading them, up to the last one.
func (c *Client) readable(ctx context.Context, stream, subject string) (n int, last uint64, err error) {
	for n < countMost {
		msgs, left, err := c.Next(ctx, stream, subject, last+1, countBatch, countBytes)
		if err != nil {
			return 0, 0, err
		}
		n += len(msgs)
		if len(msgs) > 0 {
			last = msgs[len(msgs)-1].Seq
		}
		if left == 0 || len(msgs) == 0 {
			break
		}
	}
	return n, last, nil
}

// upToTries is how often the only copy is asked anew because others have sent between
// two questions.
const upToTries = 20

// upTo returns how many messages the only copy of a stream counts on a subject, those
// that it cannot read included, and then how many behind a sequence. Only the count that
// comes with the first message is sure to include what it cannot read: if others store
// meanwhile, the server counts what follows anew for the end of its answer, by reading.
func (c *Client) upTo(ctx context.Context, stream, subject string, last uint64) (all, later int, err error) {
	first, _, err := c.Next(ctx, stream, subject, 1, 1, countBytes)
	if err != nil || len(first) == 0 {
		return 0, 0, err
	}
	all, _ = strconv.Atoi(lastValue(first[0].Header, "Nats-Num-Pending"))
	msgs, left, err := c.Next(ctx, stream, subject, last+1, 1, countBytes)
	return 1 + all, len(msgs) + left, err
}

// total returns how many messages the store counts on a subject, which messages of
// the stream it has lost since it was opened, and how many copies the stream has.
func (c *Client) total(ctx context.Context, stream, subject string) (n int, lost []uint64, copies int, err error) {
	body, err := json.Marshal(map[string]string{"subjects_filter": c.shard.Stored(subject)})
	if err != nil {
		return 0, nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+c.shard.Stream(stream), body)
	if err != nil {
		return 0, nil, 0, fmt.Errorf("direct: count the messages of %s: %w", subject, err)
	}
	var got struct {
		Error  *jetstream.APIError    `json:"error"`
		Config jetstream.StreamConfig `json:"config"`
		State  struct {
			Subjects map[string]int `json:"subjects"`
			Lost     struct {
				Msgs []uint64 `json:"msgs"`
			} `json:"lost"`
		} `json:"state"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return 0, nil, 0, fmt.Errorf("direct: count the messages of %s: %w", subject, err)
	}
	if got.Error != nil {
		return 0, nil, 0, fmt.Errorf("direct: count the messages of %s: %w", subject, got.Error)
	}
	return got.State.Subjects[c.shard.Stored(subject)], got.State.Lost.Msgs, got.Config.Replicas, nil
}
