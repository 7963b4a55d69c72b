package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/epoch"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// What a restore fences. The stream of what is due is made anew, and a stream
// that takes from it would begin at its start and deliver again what it has. So
// the inbox stream is restored without its source, what it has taken is removed
// there, and 'rccs serve' gives it its source again. Sequences that were given out
// after the backup are given out again: the epochs change.

// unfenced is the configuration of the inbox stream without its source, and
// without what says that a restore is done: the backup may be of an installation
// that was restored itself.
func unfenced(config json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	var known struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := errors.Join(json.Unmarshal(config, &fields), json.Unmarshal(config, &known)); err != nil {
		return nil, fmt.Errorf("unreadable configuration: %w", err)
	}
	delete(fields, "sources")
	delete(known.Metadata, epoch.RedeliverMetadata)
	metadata, err := json.Marshal(known.Metadata)
	if err != nil {
		return nil, err
	}
	fields["metadata"] = metadata
	return json.Marshal(fields)
}

// takenWithin is how long the inbox stream may take for what is due.
var takenWithin = time.Minute

// fence works on the restored streams of a tenant's shard. begun is when the backup was:
// the inbox stream had taken by then what had been due for [takenWithin], and
// some of that may be gone from it again.
func fence(ctx context.Context, nc *nats.Conn, s shard.Shard, begun time.Time) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	js = s.JetStream(js)
	d := direct.New(nc).In(s)
	if err := d.Start(); err != nil {
		return err
	}
	defer d.Stop()
	later, err := js.Stream(ctx, subjects.StreamLater)
	if err != nil {
		return fmt.Errorf("stream %s: %w", subjects.StreamLater, err)
	}
	next, err := nextDue(ctx, d, js, begun.Add(-takenWithin))
	if err != nil {
		return err
	}
	taken, err := takenUpTo(ctx, nc, s, js)
	if err != nil {
		return err
	}
	if next = max(next, taken+1); next > 1 {
		due, _ := layout.DueToInbox()
		if err := later.Purge(ctx, jetstream.WithPurgeSubject(due), jetstream.WithPurgeSequence(next)); err != nil {
			return fmt.Errorf("remove from %s what was taken: %w", subjects.StreamLater, err)
		}
	}
	if err := markWaiting(ctx, js, d, reader.Options{Conn: nc, Shard: d.Shard()}); err != nil {
		return err
	}
	for _, name := range []string{layout.StreamInbox, subjects.StreamTopic} {
		if err := epoch.Renew(ctx, js, name); err != nil {
			return err
		}
	}
	// A device may have been sent what its cursor in the backup does not know, or what
	// waited for it.
	if err := epoch.Redeliver(ctx, js, layout.StreamRoute); err != nil {
		return err
	}
	return epoch.Redeliver(ctx, js, layout.StreamInbox)
}

// A copy that lags behind has nothing of what was restored. So the leader is asked:
// whoever believed that copy would remove delayed messages that nobody has had.

// nextDue is the sequence of the first message that was stored at a time or
// later, or the one after the last.
func nextDue(ctx context.Context, d *direct.Client, js jetstream.JetStream, at time.Time) (uint64, error) {
	info, err := leader.Info(ctx, js, subjects.StreamLater)
	if err != nil {
		return 0, err
	}
	from, end := info.State.FirstSeq, info.State.LastSeq+1
	for from < end { // what is looked for is at from or later, and at end or before
		mid := from + (end-from)/2
		m, err := d.AtLeader(ctx, subjects.StreamLater, ">", mid)
		switch {
		case err != nil:
			return 0, fmt.Errorf("read %s: %w", subjects.StreamLater, err)
		case m == nil || m.Time >= at.UnixNano():
			end = mid
		default:
			from = m.Seq + 1
		}
	}
	return end, nil
}

// lookBack is how many messages are read from the end at first.
const lookBack = 1000

// takenUpTo is up to which sequence the inbox stream has taken what was due; 0:
// nothing that is still stored.
func takenUpTo(ctx context.Context, nc *nats.Conn, s shard.Shard, js jetstream.JetStream) (uint64, error) {
	info, err := leader.Info(ctx, js, layout.StreamInbox)
	if err != nil {
		return 0, err
	}
	first, last := info.State.FirstSeq, info.State.LastSeq
	for back := uint64(lookBack); ; back *= 4 {
		after := max(last-min(last, back), max(first, 1)-1)
		taken, err := takenAfter(ctx, nc, s, after)
		if taken > 0 || err != nil || after == 0 || after < first {
			return taken, err
		}
	}
}

// takenAfter looks at the messages behind a sequence. The reader goes on until it has
// all that the leader has.
func takenAfter(ctx context.Context, nc *nats.Conn, s shard.Shard, after uint64) (taken uint64, err error) {
	r, err := reader.New(reader.Options{
		Conn: nc, Stream: layout.StreamInbox, Shard: s, FromStart: true, After: after, HeadersOnly: true,
		Handle: func(e reader.Entry) { taken = max(taken, sourcedFrom(e.Header)) },
	})
	if err == nil {
		err = r.Start(ctx)
	}
	if err == nil {
		err = r.Stop(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", layout.StreamInbox, err)
	}
	return taken, nil
}

// sourceHeader says where a stream has taken a message from.
const sourceHeader = "Nats-Stream-Source"

// sourcedFrom is the sequence in the stream of what is due that a message comes
// from; 0: from nowhere.
func sourcedFrom(header nats.Header) uint64 {
	fields := strings.Fields(header.Get(sourceHeader)) // stream, its sequence, filter, …
	if len(fields) < 2 || !strings.HasPrefix(fields[0], subjects.StreamLater) {
		return 0
	}
	seq, _ := strconv.ParseUint(fields[1], 10, 64)
	return seq
}
