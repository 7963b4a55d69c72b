package coordinator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/send"
	"github.com/rccs-io/rccs/internal/wake"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

const (
	fetchDefault = 100
	fetchMost    = 1000
	// fetchTries bounds how often a fetch or an ack is tried against others for
	// the same device.
	fetchTries = 10
	// fetchRoom is how much of the largest message is left for headers.
	fetchRoom = 4096
	// fetchPoll is how often a waiting fetch looks without having heard of a
	// message: delayed messages come unheard.
	fetchPoll = time.Second
)

// fetch answers {"limit"?,"wait"?} with an array of envelopes: the messages that
// the device has not acknowledged, higher lanes first, as an edge would send
// them. With wait, in ms, it waits that long for a message if there is none.
// Fetched messages count as sent: until they are acknowledged they come again,
// marked redelivered.
func (c *Coordinator) fetch(ctx context.Context, req *request) (any, *wire.Error) {
	var q struct {
		Limit int   `json:"limit"`
		Wait  int64 `json:"wait"`
	}
	if werr := req.decode(&q); werr != nil {
		return nil, werr
	}
	a, werr := req.owner()
	if werr != nil {
		return nil, werr
	}
	if req.Reply == "" {
		return nil, nil // nobody would get what then counts as sent
	}
	limit := min(cmp.Or(max(q.Limit, 0), fetchDefault), fetchMost)
	wait := time.Duration(min(max(q.Wait, 0), maxWait.Milliseconds())) * time.Millisecond
	news := wake.New()
	if wait > 0 {
		sub, err := c.core.Subscribe(c.opts.Shard.Subject(subjects.Scope(a).Inboxes()), func(*nats.Msg) { news.Set() })
		if err != nil {
			return nil, c.wireError("inbox not watched", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	end := time.After(wait)
	if wait > 0 {
		newer, done := c.fetches.begin(a.Key(), wait)
		defer done()
		end = newer
	}
	return c.fetchUntil(ctx, a, limit, end, news)
}

func (c *Coordinator) fetchUntil(ctx context.Context, a subjects.Address, limit int, end <-chan time.Time, news <-chan struct{}) (any, *wire.Error) {
	poll := time.NewTicker(fetchPoll)
	defer poll.Stop()
	for last := false; ; {
		found, werr := c.fetchOnce(ctx, a, limit)
		if werr != nil || found != nil || last {
			if found == nil {
				found = []byte("[]")
			}
			return json.RawMessage(found), werr
		}
		select {
		case <-news: // published; stored a moment later
		case <-poll.C:
		case <-end:
			last = true
		case <-c.idle.Done():
			last = true
		}
	}
}

// fetchOnce fetches without waiting. It returns nil if there is nothing.
func (c *Coordinator) fetchOnce(ctx context.Context, a subjects.Address, limit int) ([]byte, *wire.Error) {
	last, err := c.roster.Supersede(ctx, a.Key())
	if err != nil {
		return nil, c.wireError("session not ended", err)
	}
	for range fetchTries {
		if werr := c.away(a.Key()); werr != nil {
			return nil, werr
		}
		cursor, revision, err := c.cursors.Load(ctx, a.Key())
		if err != nil {
			return nil, c.wireError("cursor not loaded", err)
		}
		cursor.Follows(last)
		p := &fetchBatch{c: c, to: a, limit: limit, sent: slices.Max(cursor.Sent[:]), room: int(c.core.MaxPayload()) - fetchRoom, newest: c.collapses.take(a.Key())}
		err = p.fill(ctx, &cursor)
		if p.full { // else nothing is left to be replaced
			c.collapses.put(a.Key(), p.newest)
		}
		if err == nil {
			err = p.tellGaps(ctx, &cursor)
		}
		if err == nil {
			err = p.store(ctx, &cursor, revision)
		}
		switch {
		case errors.Is(err, inbox.ErrMoved):
			continue
		case err != nil:
			return nil, c.wireError("inbox not read", err)
		case len(p.body) == 0:
			return nil, nil
		}
		if p.changed { // something is given out that an edge may not know of
			epoch, werr := c.stillAway(ctx, a.Key())
			if werr != nil {
				return nil, werr
			}
			if epoch > last { // it came and went, and may have been sent what is new here
				last = epoch
				continue
			}
		}
		p.recordFetched()
		return append(p.body, ']'), nil
	}
	return nil, send.Unavailable()
}
