package ops

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
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

func (d *doctor) edges(ctx context.Context, name string) error {
	var err error
	if d.status.Edges, err = d.t.Edges(ctx); err != nil {
		return err
	}
	if len(d.status.Edges) == 0 {
		if err := d.noEdge(ctx, name); err != nil {
			return err
		}
	}
	if d.opts.edges != nil {
		if d.t.shard.N() > 0 {
			return nil // the first shard tells of all that there are
		}
		if d.status.Edges, err = d.opts.edges(ctx); err != nil {
			return err
		}
	}
	versions := make(map[string]bool)
	for _, e := range d.status.Edges {
		versions[e.Version] = true
		if e.Unready != "" {
			d.note(name, LevelFail, fmt.Sprintf("edge %s cannot serve: %s", e.Name, e.Unready), "look at its log, its load and its connection to NATS")
		}
		if e.Unserved != "" {
			d.note(name, LevelWarn, fmt.Sprintf("edge %s does not serve every tenant: %s", e.Name, e.Unserved),
				"for each tenant that is named: are its streams there, and is the edge's credential still good ('rccs creds part' makes a new one)?")
		}
		if late := time.Since(e.Renewed); late > leaseLate {
			d.note(name, LevelWarn, fmt.Sprintf("edge %s has not renewed its lease for %s", e.Name, late.Round(time.Second)),
				"look at its log, its load and its connection to NATS; its devices are taken for offline when the lease ends")
		}
	}
	if len(versions) > 1 {
		d.note(name, LevelWarn, "edges run different versions", "finish the upgrade; 'rccs edges ls' shows which is which")
	}
	return nil
}

// noEdge tells that no edge serves the shard, or that none runs at all.
func (d *doctor) noEdge(ctx context.Context, name string) error {
	if d.opts.edges != nil {
		if all, err := d.opts.edges(ctx); err != nil {
			return err
		} else if len(all) > 0 {
			d.note(name, LevelWarn, fmt.Sprintf("no edge serves shard %d: the first that one of its devices comes to will", d.t.shard.N()),
				"look again in ten seconds; if it stays so, name the shard with --shards of an edge")
			return nil
		}
	}
	d.note(name, LevelFail, "no edge runs: no device can connect", "start 'rccs serve' or 'rccs edge'")
	return nil
}

func (d *doctor) coordinator(ctx context.Context, name string) error {
	list, err := d.t.coordinators(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		d.note(name, LevelFail, "no coordinator answers: messages of services to several devices wait, and the sessions of dead edges do not end",
			"start 'rccs serve' or 'rccs coordinator'")
	}
	idle := shard.All(d.t.shard.Count())
	for _, c := range list {
		if c.Shards == nil {
			idle = nil
		}
		idle = slices.DeleteFunc(idle, func(s shard.Shard) bool { return slices.Contains(c.Shards, s.N()) })
		if c.Unready != "" {
			d.note(name, LevelFail, fmt.Sprintf("coordinator %s cannot do its work: %s", c.ID, c.Unready), "look at its log, its load and its connection to NATS")
		}
		if c.Unserved > 0 {
			d.note(name, LevelWarn, fmt.Sprintf("coordinator %s does not serve every tenant (%d missing)", c.ID, c.Unserved), "its /readyz and its log say which, and why")
		}
	}
	if len(list) > 0 {
		for _, s := range idle {
			d.note(name, LevelWarn, fmt.Sprintf("no coordinator works shard %d: its messages of services to several devices wait", s.N()),
				"look again in ten seconds; if it stays so, look at the logs of the coordinators")
		}
	}
	return nil
}
