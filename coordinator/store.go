package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// put stores a roster's entry, as roster.Options.Put.
func (c *Coordinator) put(msg *nats.Msg, done func(uint64, error)) {
	c.pub.Publish(msg, func(r inbox.Receipt, err error) { done(r.Seq, err) })
}

// store stores a message and waits for the answer. If ctx ends first, the message
// may still be stored.
func (c *Coordinator) store(ctx context.Context, msg *nats.Msg) (inbox.Receipt, error) {
	type result struct {
		r   inbox.Receipt
		err error
	}
	stored := make(chan result, 1)
	c.pub.Publish(msg, func(r inbox.Receipt, err error) { stored <- result{r, err} })
	select {
	case got := <-stored:
		return got.r, got.err
	case <-ctx.Done():
		return inbox.Receipt{}, fmt.Errorf("coordinator: store a message: %w", ctx.Err())
	}
}

// storeEach stores messages one by one, in order, and waits for all answers.
// After an error some of them may be stored. duplicates is how many had been
// stored before.
func (c *Coordinator) storeEach(ctx context.Context, msgs []*nats.Msg) (duplicates int, err error) {
	type result struct {
		r   inbox.Receipt
		err error
	}
	stored := make(chan result, len(msgs))
	for _, m := range msgs {
		c.pub.Publish(m, func(r inbox.Receipt, err error) { stored <- result{r, err} })
	}
	for range msgs {
		select {
		case got := <-stored:
			if got.r.Duplicate {
				duplicates++
			}
			if got.err != nil && (err == nil || storeerr.Passes(got.err)) {
				err = got.err // one that passes tells more
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("coordinator: store messages: %w", ctx.Err())
		}
	}
	return duplicates, err
}

// remove deletes one message of a stream. It is no error if the message is gone
// already.
func (c *Coordinator) remove(ctx context.Context, stream jetstream.Stream, seq uint64) error {
	err := stream.DeleteMsg(ctx, seq)
	if !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return err
	}
	// The server does not say whether it failed because there is no such message.
	if _, found, gerr := c.stored(ctx, stream.CachedInfo().Config.Name, seq); gerr != nil || found {
		return errors.Join(err, gerr)
	}
	return nil
}

// stored reads one message of a stream, and reports whether it is there. A copy that
// lags may not have it yet, so that it is gone is the leader's to say.
func (c *Coordinator) stored(ctx context.Context, stream string, seq uint64) (direct.Stored, bool, error) {
	msgs, err := c.direct.Run(ctx, stream, seq, 1)
	if err == nil && len(msgs) > 0 && msgs[0].Seq == seq {
		return msgs[0], true, nil
	}
	one, err := c.direct.One(ctx, stream, seq)
	if err != nil || one == nil {
		return direct.Stored{}, false, err
	}
	return *one, true, nil
}
