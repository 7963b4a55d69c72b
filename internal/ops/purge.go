package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// PurgeOptions say what of an inbox to remove.
type PurgeOptions struct {
	// Lanes; none means all.
	Lanes []subjects.Lane
	// Acknowledged removes only what the device has acknowledged.
	Acknowledged bool
	// Forget is for a device that is being forgotten: its cursor moves to the
	// end of the stream, so what edges hold in memory is delivered to nobody.
	Forget bool
}

// Purge removes messages of an inbox for good, and returns how many. The
// device is told of those that it had not acknowledged as of any that are lost.
func (t *Tenant) Purge(ctx context.Context, a subjects.Address, opts PurgeOptions) (uint64, error) {
	t = t.of(a.User)
	c, err := t.check(ctx, a)
	if err != nil {
		return 0, err
	}
	lanes := opts.Lanes
	if len(lanes) == 0 {
		lanes = []subjects.Lane{subjects.Low, subjects.Normal, subjects.High, subjects.Critical}
	}
	key, err := t.proof(ctx)
	if err != nil {
		return 0, err
	}
	purger, err := inbox.NewPurger(t.nc, t.direct, key)
	if err != nil {
		return 0, err
	}
	last, err := purger.Last(ctx, a.Key(), &c)
	if err != nil {
		return 0, err
	}
	var upTo [subjects.Lanes]uint64
	for _, l := range lanes {
		upTo[l] = last[l]
		if opts.Acknowledged {
			upTo[l] = min(last[l], c.AckFloor(l))
		}
	}
	ever, err := purger.Begin(ctx, a.Key(), upTo)
	if err != nil {
		return 0, err
	}
	var removed uint64
	for _, l := range lanes {
		if upTo[l] == 0 {
			continue
		}
		n, err := t.purge(ctx, layout.StreamInbox, subjects.Inbox(a.Key(), l), upTo[l]+1)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	if opts.Forget {
		return removed, nil
	}
	return removed, t.dropPurged(ctx, purger, a.Key(), ever)
}

// Edges are asked to drop what was purged until all have confirmed that, for as long
// as purgeTimeout. One that died is not asked any more when its lease has ended.
const (
	purgeTimeout = 30 * time.Second
	purgePause   = 500 * time.Millisecond
)

// dropPurged returns when no edge holds the purged messages in memory.
func (t *Tenant) dropPurged(ctx context.Context, purger *inbox.Purger, k subjects.Key, upTo [subjects.Lanes]uint64) error {
	within, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	for {
		edges, err := t.Edges(ctx)
		if err != nil {
			return err
		}
		names := make([]string, len(edges))
		for i, e := range edges {
			names[i] = e.Name
		}
		if err = purger.Finish(within, k, upTo, names); err == nil {
			return nil
		}
		select {
		case <-time.After(purgePause):
		case <-within.Done():
			return fmt.Errorf("ops: the messages are removed, but those that an edge has in memory may still be delivered "+
				"(purge again when the edge answers or its lease has ended: it is asked again): %w", err)
		}
	}
}

// purge removes the messages of a subject, those below a sequence unless that
// is 0. nats.go does not tell how many were removed.
func (t *Tenant) purge(ctx context.Context, stream, subject string, before uint64) (uint64, error) {
	body, err := json.Marshal(struct {
		Filter   string `json:"filter"`
		Sequence uint64 `json:"seq,omitempty"`
	}{subject, before})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	answer, err := askAgain(ctx, t.nc, "$JS.API.STREAM.PURGE."+t.shard.Stream(stream), body, askTimeout)
	if err != nil {
		return 0, fmt.Errorf("ops: purge %s: %w", subject, err)
	}
	var told struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	switch err := json.Unmarshal(answer.Data, &told); {
	case err != nil:
		return 0, fmt.Errorf("ops: purge %s: %w", subject, err)
	case told.Error != nil:
		return 0, fmt.Errorf("ops: purge %s: %w", subject, told.Error)
	}
	return told.Purged, nil
}

// removeTimeout bounds one removal. NATS reads all blocks of a stream that may hold the
// subject: on a busy machine that has taken more than ten seconds.
const removeTimeout = 2 * time.Minute

// askAgain asks what may take long and does no harm when it is asked twice: once more
// after each pause, since a server that dies answers nothing, until ctx ends. The first
// answer counts, to whichever question.
func askAgain(ctx context.Context, nc *nats.Conn, subject string, body []byte, pause time.Duration) (*nats.Msg, error) {
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	for {
		if err := nc.PublishRequest(subject, answers.Subject, body); err != nil {
			return nil, err
		}
		asked, done := context.WithTimeout(ctx, pause)
		answer, err := answers.NextMsgWithContext(asked)
		done()
		switch {
		case err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)):
			return nil, err
		case err != nil:
		case len(answer.Data) == 0 && answer.Header.Get("Status") == "503":
			return nil, nats.ErrNoResponders
		default:
			return answer, nil
		}
	}
}
