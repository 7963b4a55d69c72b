package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// inboxes looks for those that grow, of those that hold the most.
func (d *doctor) inboxes(ctx context.Context, name string) error {
	info, err := d.t.info(ctx, layout.StreamInbox)
	if err != nil {
		return err
	}
	list, err := d.t.behind(ctx, namedAtMost)
	if err != nil {
		return err
	}
	for _, i := range list {
		if err := d.inbox(ctx, name, i, &info.Config); err != nil {
			return err
		}
	}
	return nil
}

// namedAtMost is how many inboxes are named.
const namedAtMost = 5

func (d *doctor) inbox(ctx context.Context, name string, i *Inbox, conf *jetstream.StreamConfig) error {
	who := i.Address().String()
	look := "see 'rccs inbox show " + who + "'; if the device will not come back, 'rccs devices forget " + who + "'"
	if i.Unacknowledged >= behindWarn {
		d.note(name, LevelWarn, fmt.Sprintf("%s has %d unacknowledged messages; senders are refused past its bound", who, i.Unacknowledged), look)
	}
	if i.Oldest != nil && conf.MaxAge > 0 && time.Since(*i.Oldest) > conf.MaxAge/100*ageWarn {
		left := max(conf.MaxAge-time.Since(*i.Oldest), 0)
		d.note(name, LevelWarn, fmt.Sprintf("%s has an unacknowledged message that goes in %s, %s after it was stored", who, left.Round(time.Minute), conf.MaxAge), look)
	}
	if conf.MaxMsgsPerSubject <= 0 {
		return nil
	}
	for l, n := range i.counts {
		lane := subjects.Lane(l)
		if n*100 < uint64(conf.MaxMsgsPerSubject)*laneFull {
			continue
		}
		s := LaneState{Stored: n, Sent: i.cursor.Sent[lane], AckFloor: i.cursor.AckFloor(lane)}
		if err := d.t.measureLane(ctx, i, lane, &s); err != nil {
			return err
		}
		if lost := s.Unacked + s.Waiting; lost*100 >= uint64(conf.MaxMsgsPerSubject)*laneFull {
			d.note(name, LevelFail, fmt.Sprintf("lane %s of %s has %d unacknowledged messages; past %d the oldest are lost", lane, who, lost, conf.MaxMsgsPerSubject), look)
		}
	}
	return nil
}

// routing looks at what waits to be given to a device.
func (d *doctor) routing(ctx context.Context, name string) error {
	info, err := d.t.info(ctx, layout.StreamRoute)
	if err != nil || info.State.Msgs == 0 {
		return err
	}
	first, _, err := d.t.direct.Get(ctx, layout.StreamRoute, &direct.Request{Seq: max(info.State.FirstSeq, 1), Batch: 1})
	if err != nil {
		return fmt.Errorf("ops: read %s: %w", d.t.shard.Stream(layout.StreamRoute), err)
	}
	if len(first) == 0 {
		return nil
	}
	if waited := time.Since(time.Unix(0, first[0].Time)); waited > waitWarn {
		d.note(name, LevelWarn, fmt.Sprintf("%d messages wait for a suitable device to come online, the oldest for %s", info.State.Msgs, waited.Round(time.Minute)),
			"see 'nats stream view "+d.t.shard.Stream(layout.StreamRoute)+"'; they go when they are "+info.Config.MaxAge.String()+" old")
	}
	return nil
}
