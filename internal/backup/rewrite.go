package backup

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/snapshot"
	"github.com/rccs-io/rccs/subjects"
)

// rewrite changes what of a message depends on the shard that it is in. was is its
// sequence in the old shard n. It reports false for one that is left out.
func (d *division) rewrite(name string, n int, was uint64, to shard.Shard, m *snapshot.Message) bool {
	switch name {
	case layout.StreamInbox:
		d.message(n, m)
	case subjects.StreamLater:
		if layout.IsDue(m.Subject) && (was <= d.taken[n] || m.Time < d.f.Manifest.Begun.Add(-takenWithin).UnixNano()) {
			return false // the inbox stream has taken it, as in fence
		}
		d.later(n, to, m)
	case layout.StreamCursor:
		if d.renumbers() {
			if layout.IsPurged(m.Subject) {
				m.Body = d.inbox[n].Purged(m.Body)
			} else {
				m.Body = d.inbox[n].Cursor(m.Body)
			}
		}
	case layout.StreamDeadline:
		key, ok := layout.ParseDeadline(m.Subject)
		if !ok || !d.renumbers() {
			break
		}
		if one := d.inbox[n].Deadline(key, m.Body); one != nil {
			m.Body = one.Data
			m.SetHeaders(one.Header)
		}
	}
	return true
}

// renumbers reports whether messages of inboxes get other sequences.
func (d *division) renumbers() bool { return len(d.from) > 1 }

// message rewrites one of an inbox. Where it was taken from has no meaning any more,
// and must not be taken for a sequence of the new stream.
func (d *division) message(n int, m *snapshot.Message) {
	h := m.Headers()
	taken := sourcedFrom(h)
	d.taken[n] = max(d.taken[n], taken)
	if taken > 0 {
		h.Del(sourceHeader)
		m.SetHeaders(h)
	}
	// An outcome names a message of the same shard that was stored before it. So the
	// order knows its new sequence, although it has not come to its end.
	key, lane, ok := subjects.ParseInbox(m.Subject)
	if ok && d.renumbers() && d.inbox[n].Outcome(d.key, key, lane, h, m.Body) {
		m.SetHeaders(h)
	}
}

// later rewrites a delayed message: its target lies in its own stream.
func (d *division) later(n int, to shard.Shard, m *snapshot.Message) {
	h := m.Headers()
	if h == nil {
		return
	}
	d.from[n].PlainHeader(m.Subject, h)
	one := &nats.Msg{Subject: m.Subject, Header: h}
	to.Address(one)
	m.SetHeaders(h)
}

// event rewrites an event. Its id ends in the number of the shard that told it, and
// may begin with that of a message.
func (d *division) event(m *snapshot.Message) {
	user, h := layout.Owner(m.Subject), m.Headers()
	if h == nil {
		return
	}
	n := shard.Of(user, len(d.from))
	d.from[n].PlainHeader(m.Subject, h)
	if d.renumbers() {
		m.Body = d.inbox[n].Event(h, m.Body)
	}
	d.to[shard.Of(user, len(d.to))].Address(&nats.Msg{Subject: m.Subject, Header: h})
	m.SetHeaders(h)
}

// maxCommon bounds what a cursor stream holds that is no user's.
const maxCommon = 64

// common are the entries of the cursor streams that are about a shard, not a device.
type common struct {
	d    *division
	last map[string]*snapshot.Message // by subject
}

// asItIs leaves sequences as they are.
var asItIs inbox.Renumbering = func(seq uint64) uint64 { return seq }

// hold adds what one old shard holds to what the others do.
func (c *common) hold(n int, m *snapshot.Message) error {
	if c.last == nil {
		c.last = map[string]*snapshot.Message{}
	}
	have, number := c.last[m.Subject], c.d.inbox[n]
	switch m.Subject {
	case layout.RouteSenders:
		return nil // of another stream; without it services take no turns in what waits
	case layout.Watermark:
		head := number.Watermark(m.Body)
		if have != nil {
			head = max(head, asItIs.Watermark(have.Body))
		}
		m.Body = inbox.WatermarkAt(head)
	case layout.Counted:
		upTo := number.Counted(m.Body)
		if have != nil {
			upTo = min(upTo, asItIs.Counted(have.Body))
		}
		m.Body = inbox.CountedUpTo(upTo)
	case layout.Damaged(layout.StreamInbox):
		var others []byte
		if have != nil {
			others = have.Body
		}
		body, err := number.Damaged(others, m.Body)
		if err != nil {
			return err
		}
		m.Body = body
	}
	c.last[m.Subject] = m
	return nil
}

// write adds what was held to the archives, behind all else. What is about the
// tenant's own streams is in the first shard.
func (c *common) write(out []shardFile, after uint64) error {
	all := slices.SortedFunc(maps.Values(c.last), func(a, b *snapshot.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	for i, m := range all[:min(len(all), maxCommon)] {
		m.Seq = after + uint64(i) + 1
		to := out
		if stream, ok := layout.ParseDamaged(m.Subject); m.Subject == layout.TopicMark || ok && !shard.Divided(stream) {
			to = out[:1]
		}
		if err := addTo(to, c.d.to[:len(to)], m); err != nil {
			return err
		}
	}
	return nil
}
