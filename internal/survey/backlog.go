package survey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// backlog is which devices have something unacknowledged. It knows only those;
// what is said of a device is as of its stored cursor, a second or two
// old, and the age of what waits is right to within a round.
type backlog struct {
	direct  *direct.Client
	cursors *direct.Last
	began   bool
	rounds  int
	read    uint64 // last sequence of the cursor stream that was looked at
	head    uint64 // of the inbox stream, as of the last round
	first   uint64 // where the inbox stream began then
	since   int64  // when that message was stored, Unix nanoseconds
	marks   []mark // how far the inbox stream was when, the oldest first
	devices map[subjects.Key]owing
}

// owing is a device with something unacknowledged.
type owing struct {
	count uint64
	first uint64 // sequence of the oldest, or one that is not above it
	top   uint64 // nothing is known above it
	since int64  // when the oldest was stored, Unix nanoseconds
}

type mark struct {
	seq uint64
	at  int64
}

const (
	cursorBatch = 1000
	marksAtMost = 8192
	askedAtOnce = 8
	// checkEvery is the number of rounds after which it is looked whether the
	// cursors of devices that owe are still there. Forgetting a device removes
	// it, which leaves no trace that could be read.
	checkEvery = 6
	checkBatch = 512
)

func newBacklog(c *direct.Client) *backlog {
	return &backlog{direct: c, cursors: c.Last(layout.StreamCursor, false), devices: make(map[subjects.Key]owing)}
}

// look reads the cursors that changed since the last round.
func (b *backlog) look(ctx context.Context, in *jetstream.StreamInfo) error {
	if in == nil {
		return errors.New("survey: the inbox stream does not answer")
	}
	if in.State.LastSeq < b.head { // it was cut back, or made anew
		*b = *newBacklog(b.direct)
	}
	b.first, b.since = in.State.FirstSeq, in.State.FirstTime.UnixNano()
	for {
		msgs, err := b.direct.Run(ctx, layout.StreamCursor, b.read+1, cursorBatch)
		if err != nil {
			return fmt.Errorf("survey: read cursors: %w", err)
		}
		if len(msgs) == 0 {
			break
		}
		if err := b.update(ctx, msgs); err != nil {
			return err
		}
		b.read = msgs[len(msgs)-1].Seq
	}
	if b.rounds++; b.rounds%checkEvery == 0 {
		if err := b.check(ctx); err != nil {
			return err
		}
	}
	b.began = true
	b.head = in.State.LastSeq
	b.mark(mark{b.head, time.Now().UnixNano()})
	return nil
}

func (b *backlog) mark(m mark) {
	if n := len(b.marks); n > 1 && b.marks[n-1].seq == m.seq && b.marks[n-2].seq == m.seq {
		b.marks[n-1] = m // nothing came meanwhile: the last two are enough
		return
	}
	if len(b.marks) >= marksAtMost {
		b.marks = slices.Delete(b.marks, 0, marksAtMost/4)
	}
	b.marks = append(b.marks, m)
}

// update looks at cursors, several at a time, since some of them need a question
// to the store.
func (b *backlog) update(ctx context.Context, msgs []direct.Stored) error {
	type result struct {
		key  subjects.Key
		owes owing
	}
	results := make([]result, len(msgs))
	errs := make([]error, askedAtOnce)
	var wg sync.WaitGroup
	for w := range askedAtOnce {
		wg.Go(func() {
			for i := w; i < len(msgs); i += askedAtOnce {
				key, ok := layout.ParseCursor(msgs[i].Subject)
				if _, err := key.Address(); err != nil || !ok {
					continue // no device can have this name
				}
				c, err := inbox.ParseCursor(msgs[i].Data)
				if err != nil {
					c = inbox.Cursor{} // the device gets everything again, and is counted then
				}
				owes, err := b.owes(ctx, key, &c)
				if err != nil {
					errs[w] = err
					return
				}
				results[i] = result{key, owes}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, r := range results {
		switch {
		case r.key == "":
		case r.owes.count == 0:
			delete(b.devices, r.key)
		default:
			b.devices[r.key] = r.owes
		}
	}
	return nil
}

// owes finds out what a cursor leaves unacknowledged. It changes nothing.
func (b *backlog) owes(ctx context.Context, key subjects.Key, c *inbox.Cursor) (owing, error) {
	before, known := b.devices[key]
	var o owing
	for l := range subjects.Lanes {
		unacked, waiting := c.Unacked[l], c.Waiting[l]
		o.count += uint64(len(unacked)) + waiting
		var first uint64
		var at int64
		switch {
		case len(unacked) > 0:
			first = unacked[0]
			o.top = max(o.top, unacked[len(unacked)-1])
		case waiting == 0:
			continue
		case known && before.first > c.Sent[l]:
			first = before.first // it may be another lane's, and is no later than this one's
		case b.began && !known:
			first = max(c.Sent[l], b.head) + 1 // there was nothing a round ago
		default:
			m, err := stored(ctx, b.direct, subjects.Inbox(key, subjects.Lane(l)), c.Sent[l]+1)
			if err != nil {
				return owing{}, err
			}
			if m == nil {
				o.count -= waiting // retention or a purge was faster
				continue
			}
			first, at = m.Seq, m.Time
		}
		if waiting > 0 {
			o.top = max(o.top, c.UpTo)
		}
		if o.first == 0 || first < o.first {
			o.first, o.since = first, at
		}
	}
	if o.count == 0 || o.since != 0 {
		return o, nil
	}
	if known && before.first == o.first {
		o.since = before.since
		return o, nil
	}
	var err error
	o.since, err = b.timeOf(ctx, o.first)
	return o, err
}

// timeOf is when a message of the inbox stream was stored, as the marks say, or
// the store where they do not reach.
func (b *backlog) timeOf(ctx context.Context, seq uint64) (int64, error) {
	i, _ := slices.BinarySearchFunc(b.marks, seq, func(m mark, seq uint64) int {
		if m.seq < seq {
			return -1
		}
		return 1
	})
	switch {
	case i == len(b.marks) && b.began:
		return time.Now().UnixNano(), nil // since the last round
	case i > 0:
		was, is := b.marks[i-1], b.marks[i]
		return was.at + int64(float64(is.at-was.at)*float64(seq-was.seq)/float64(max(is.seq-was.seq, 1))), nil
	}
	msgs, err := b.direct.Run(ctx, layout.StreamInbox, seq, 1)
	if err != nil {
		return 0, fmt.Errorf("survey: %w", err)
	}
	if len(msgs) == 0 {
		return time.Now().UnixNano(), nil
	}
	return msgs[0].Time, nil
}

// check drops devices whose cursors are gone.
func (b *backlog) check(ctx context.Context) error {
	keys := make([]subjects.Key, 0, len(b.devices))
	for k := range b.devices {
		keys = append(keys, k)
	}
	for part := range slices.Chunk(keys, checkBatch) {
		names := make([]string, len(part))
		for i, k := range part {
			names[i] = layout.Cursor(k)
		}
		found, err := b.cursors.Get(ctx, names)
		if err != nil {
			return fmt.Errorf("survey: look up cursors: %w", err)
		}
		for i, m := range found {
			if m == nil {
				delete(b.devices, part[i])
			}
		}
	}
	return nil
}

// sum adds all devices up. What retention has taken is no longer owed.
func (b *backlog) sum(f *figures) {
	now := time.Now().UnixNano()
	for k, o := range b.devices {
		if o.top < b.first {
			delete(b.devices, k)
			continue
		}
		if o.first < b.first {
			o.first, o.since = b.first, b.since
			o.count = min(o.count, o.top-b.first+1)
			b.devices[k] = o
		}
		age := time.Duration(max(now-o.since, 0))
		f.unacknowledged += o.count
		f.oldest = max(f.oldest, age)
		for i, a := range ages {
			if age < a.least {
				break
			}
			f.behind[i]++
		}
	}
}
