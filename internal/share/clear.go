package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Many users together can fill a stream though each keeps to his own share, with
// messages that they have acknowledged and that are kept for history alone. So
// the whole stream is watched as well: from three quarters on, the oldest of what
// nobody waits for goes, whose ever it is, down to a half. What services publish
// counts here too.

const (
	// ClearEvery is how often a coordinator looks, see [Options].
	ClearEvery = 5 * time.Second
	// clearBatch is how many messages are read before what of them was
	// acknowledged is removed.
	clearBatch = 20_000
)

// cleared are the kinds of which the whole stream is watched. The other streams
// drop their oldest by themselves, or hold only what waits.
var cleared = [...]Kind{Inbox, Up}

// watch clears the streams from time to time until the shares are stopped. One
// that took long to read is read more seldom.
func (s *Shares) watch(every time.Duration) {
	var due [kinds]time.Time
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, k := range cleared {
			began := time.Now()
			if began.Before(due[k]) {
				continue
			}
			if err := s.clear(k); err != nil && s.ctx.Err() == nil {
				s.log.Warn("no room was made in a stream", "stream", infos[k].stream, "err", err)
			}
			due[k] = time.Now().Add(min(lookTimes*time.Since(began), maxRetry))
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// clear removes the oldest of what nobody waits for, if the stream is above three
// quarters of its bound.
func (s *Shares) clear(k Kind) error {
	limit, info, err := s.bounds(k)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	used := int64(info.State.Bytes) //nolint:gosec // what is on a disk
	want := tooMuch(amount{bytes: used}, amount{bytes: limit}).bytes
	if want == 0 {
		return nil
	}
	c := clearing{s: s, kind: k, want: want, solid: true, last: info.State.LastSeq}
	if c.floor, err = s.floors(k); err != nil {
		return err
	}
	for after := uint64(0); c.want > 0 && after < c.last; {
		if after, err = c.pass(after); err != nil {
			return err
		}
	}
	if c.want < want {
		s.log.Info("what was acknowledged made room in a stream", "stream", infos[k].stream, "bytes", want-c.want)
	}
	return nil
}

// clearing is the removal of the oldest of a stream, a batch at a time.
type clearing struct {
	s     *Shares
	kind  Kind
	want  int64  // bytes that are still to go
	last  uint64 // of the stream, when it began
	solid bool   // nothing is left of the batches before
	floor func(subject string, key subjects.Key) (uint64, error)
}

// old is a message that was read.
type old struct {
	subject string
	key     subjects.Key
	ok      bool // it is known whose it is
	seq     uint64
	bytes   int64
}

// pass reads one batch and removes what of it nobody waits for. It returns how
// far it has read.
func (c *clearing) pass(after uint64) (uint64, error) {
	batch, err := c.read(after)
	if err != nil || len(batch) == 0 {
		return c.last, err
	}
	floors := make(map[string]uint64) // by subject
	var whole uint64                  // all up to it may go
	cuts := make(map[string]uint64)
	for _, m := range batch {
		floor, known := floors[m.subject]
		if !known && m.ok {
			if floor, err = c.floor(m.subject, m.key); err != nil {
				return 0, err
			}
			floors[m.subject] = floor
		}
		if !m.ok || m.seq > floor {
			c.solid = false
			continue
		}
		if c.want <= 0 {
			break
		}
		c.want -= m.bytes
		if c.solid {
			whole = m.seq
		} else {
			cuts[m.subject] = m.seq
		}
	}
	return batch[len(batch)-1].seq, c.purge(whole, cuts)
}

// read reads the next batch, without bodies.
func (c *clearing) read(after uint64) (batch []old, err error) {
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer cancel()
	names := make(map[string]string) // one string for all messages of a subject
	full := false
	r, err := reader.New(reader.Options{
		Conn: c.s.opts.Conn, Stream: infos[c.kind].stream, Shard: c.s.opts.Shard, FromStart: true, After: after, HeadersOnly: true, Logger: c.s.log,
		Handle: func(e reader.Entry) {
			if full {
				return
			}
			name, known := names[e.Subject]
			if !known {
				name = e.Subject
				names[name] = name
			}
			e.Subject = name
			key, ok := infos[c.kind].whose(c.s.opts.Proof, &e)
			batch = append(batch, old{name, key, ok, e.Seq, sizeOf(&e)})
			if full = len(batch) == clearBatch || e.Seq >= c.last; full {
				cancel()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	err = r.Start(ctx)
	stopped := r.Stop(context.WithoutCancel(ctx)) // after it nothing is handed out any more
	if err != nil && !full {
		return nil, fmt.Errorf("share: read %s: %w", infos[c.kind].stream, err)
	}
	return batch, stopped
}

// purge removes all of the stream up to one sequence, and of some subjects up to
// another.
func (c *clearing) purge(whole uint64, cuts map[string]uint64) error {
	if whole == 0 && len(cuts) == 0 {
		return nil
	}
	stream, err := c.s.js.Stream(c.s.ctx, infos[c.kind].stream)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	if whole > 0 {
		err = stream.Purge(c.s.ctx, jetstream.WithPurgeSequence(whole+1))
	}
	type cut struct {
		subject string
		upTo    uint64
	}
	list := make([]cut, 0, len(cuts))
	for subject, upTo := range cuts {
		list = append(list, cut{subject, upTo})
	}
	slices.SortFunc(list, func(a, b cut) int { return cmp.Compare(a.upTo, b.upTo) })
	for _, one := range list {
		err = errors.Join(err, stream.Purge(c.s.ctx, jetstream.WithPurgeSubject(one.subject), jetstream.WithPurgeSequence(one.upTo+1)))
		if err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("share: remove the oldest of %s: %w", infos[c.kind].stream, err)
	}
	return nil
}
