package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// damageTold is for how long damage of the store is told.
const damageTold = 7 * 24 * time.Hour

// damaged is what a server found when it started, by stream.
type damaged struct {
	Ranges [][2]uint64 `json:"ranges"`
	Found  []struct {
		Stream, Server string
		At             time.Time
		Files          []string
		First          uint64
		Unreadable     bool
	} `json:"found"`
}

// shares looks at how much of its part of the tenant's share a stream has used.
func (d *doctor) shares(ctx context.Context, name string) error {
	list := d.t.js.ListStreams(ctx)
	var later uint64
	var inboxes, copies int64
	for info := range list.Info() {
		plain, own := d.t.shard.PlainStream(info.Config.Name)
		if !own {
			continue
		}
		switch plain {
		case subjects.StreamLater:
			later = info.State.Bytes
		case layout.StreamInbox:
			inboxes, copies = info.Config.MaxBytes, int64(max(info.Config.Replicas, 1))
		}
		// The others drop the oldest, as they should.
		if info.Config.MaxBytes > 0 && info.Config.Discard == jetstream.DiscardNew {
			d.fill(name, "stream "+info.Config.Name, info.State.Bytes, info.Config.MaxBytes,
				"have messages acknowledged or removed, or give the tenant more: 'rccs tenants set NAME --max-storage 10GB', max_file_store of nats.conf")
		}
	}
	d.fill(name, "delayed messages: their part of the share", later, inboxes/inboxPercent*laterPercent,
		"cancel what is not needed, or give the tenant more: 'rccs tenants set NAME --max-storage 10GB', max_file_store of nats.conf")
	if err := list.Err(); err != nil {
		return err
	}
	return d.follows(ctx, name, inboxes*copies)
}

// follows compares what inboxes may take, all copies together, with the tenant's
// limit, of which it is a part.
func (d *doctor) follows(ctx context.Context, name string, inboxes int64) error {
	store, err := d.t.store(ctx)
	if err != nil {
		return err
	}
	part := store.Limit / 100 * inboxPercent
	if inboxes <= 0 || part <= 0 || max(inboxes, part)-min(inboxes, part) <= part/20 { // shares are rounded
		return nil
	}
	d.note(name, LevelWarn,
		fmt.Sprintf("inboxes may take %d bytes, which is not their part of the tenant's limit of %d: %d", inboxes, store.Limit, part),
		"a server has them follow within seconds, unless they hold more or the shares do not fit: see its log, have messages acknowledged, or change the limit")
	return nil
}

// laterPercent is what delayed messages may take of a tenant's share; their
// stream has no bound of its own.
const laterPercent = 6

// damage tells of blocks of the store that could not be read.
func (d *doctor) damage(ctx context.Context, name string) error {
	cursors, err := d.t.js.Stream(ctx, layout.StreamCursor)
	if err != nil {
		return fmt.Errorf("ops: look up stream %s: %w", layout.StreamCursor, err)
	}
	info, err := cursors.Info(ctx, jetstream.WithSubjectFilter(layout.Damaged("*")))
	if err != nil {
		return fmt.Errorf("ops: look up stream %s: %w", layout.StreamCursor, err)
	}
	for subject := range info.State.Subjects {
		msg, err := cursors.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("ops: read %s: %w", subject, err)
		}
		var all damaged
		if err := json.Unmarshal(msg.Data, &all); err != nil {
			d.note(name, LevelWarn, "what is stored of damage cannot be read: "+err.Error(), "")
			continue
		}
		d.damagedStream(name, &all)
	}
	return nil
}

func (d *doctor) damagedStream(name string, all *damaged) {
	for _, f := range all.Found {
		if time.Since(f.At) > damageTold {
			continue
		}
		stream := d.t.shard.Stream(f.Stream) // as its server and NATS call it
		level, lost := LevelWarn, "its copies on other servers are whole"
		if len(all.Ranges) > 0 {
			level, lost = LevelFail, lostOf(f.Stream)
		}
		if f.Unreadable {
			d.note(name, level, fmt.Sprintf("stream %s had messages at %s that its server could not read; the first of them is %d or later; %s",
				stream, f.At.Format(time.RFC3339), f.First, lost), "check the disk of its server: files of the store were damaged while it ran")
			continue
		}
		if f.Server == "" { // an edge found it
			d.note(name, level, fmt.Sprintf("stream %s had lost its end at %s; the first missing sequence is %d; %s", stream, f.At.Format(time.RFC3339), f.First, lost),
				"check the disks of its servers: what was stored there is gone")
			continue
		}
		d.note(name, level,
			fmt.Sprintf("server %s found stream %s damaged at %s; the first missing sequence is %d; %s", f.Server, stream, f.At.Format(time.RFC3339), f.First, lost),
			"check its disk; DIR/damaged of that server keeps the files as they were: "+strings.Join(f.Files, ", "))
	}
}

// lostOf is what becomes of what is lost of a damaged stream.
func lostOf(stream string) string {
	switch stream {
	case layout.StreamInbox, subjects.StreamTopic:
		return "the devices are told of a gap, reason damaged"
	case layout.StreamCursor:
		return "what devices have acknowledged may come again, marked redelivered"
	case layout.StreamDeadline:
		return "it was made anew from the messages that wait"
	case subjects.StreamLater:
		return "delayed messages are lost: events, undeliverable for the reason damaged, name those whose subjects could be read"
	case layout.StreamRoute:
		return "messages that waited for a suitable device are lost: events, undeliverable for the reason damaged, name those whose subjects could be read"
	case subjects.StreamEvent:
		return "events are lost; whoever follows them is not told"
	}
	return "what it held there is lost"
}
