package ops

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/subjects"
)

// PurgeOptions say what of an inbox to remove.
type PurgeOptions struct {
	// Lanes; none means all.
	Lanes []subjects.Lane
	// Acknowledged removes only what the device has acknowledged.
	Acknowledged bool
}

// Purge removes messages of an inbox for good, and returns how many. The
// device is told of those that it had not acknowledged as of any that are lost.
func (t *Tenant) Purge(ctx context.Context, a subjects.Address, opts PurgeOptions) (uint64, error) {
	c, err := t.check(ctx, a)
	if err != nil {
		return 0, err
	}
	lanes := opts.Lanes
	if len(lanes) == 0 {
		lanes = []subjects.Lane{subjects.Low, subjects.Normal, subjects.High, subjects.Critical}
	}
	var removed uint64
	for _, l := range lanes {
		before := uint64(0) // all
		if opts.Acknowledged {
			if c.AckFloor(l) == 0 {
				continue
			}
			before = c.AckFloor(l) + 1
		}
		n, err := t.purge(ctx, subjects.StreamInbox, subjects.Inbox(a.Key(), l), before)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// purge removes the messages of a subject, those below a sequence unless that
// is 0. nats.go does not tell how many were removed.
func (t *Tenant) purge(ctx context.Context, stream, subject string, before uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := json.Marshal(struct {
		Filter   string `json:"filter"`
		Sequence uint64 `json:"seq,omitempty"`
	}{subject, before})
	if err != nil {
		return 0, err
	}
	answer, err := t.nc.RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+stream, body)
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
