package ops

import (
	"context"
	"fmt"
	"iter"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Bounds of one read of a lane. The first is small: most often the caller
// wants to know whether there is anything.
const (
	readFirst = 64
	readBatch = 1000
	readBytes = 2 << 20
)

// lane reads the messages of one lane in order, a batch at a time.
type lane struct {
	t       *Tenant
	subject string
	lane    subjects.Lane
	next    uint64 // sequence to read from
	upTo    uint64 // the last one that is wanted
	// skip, when set, is the lowest sequence that is wanted at or above seq,
	// so that long runs of what is not wanted are not read.
	skip func(seq uint64) uint64

	batch int
	buf   []direct.Stored
	ended bool
}

// peek is the next message, or nil at the end.
func (l *lane) peek(ctx context.Context) (*direct.Stored, error) {
	for {
		for len(l.buf) > 0 {
			head := &l.buf[0]
			if head.Seq > l.upTo {
				break
			}
			if l.skip == nil || l.skip(head.Seq) == head.Seq {
				return head, nil
			}
			l.buf = l.buf[1:]
		}
		if l.ended || len(l.buf) > 0 {
			return nil, nil
		}
		if err := l.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// pop goes on behind what peek returned.
func (l *lane) pop() { l.buf = l.buf[1:] }

func (l *lane) fill(ctx context.Context) error {
	l.batch = min(max(readFirst, 4*l.batch), readBatch)
	if l.skip != nil {
		l.next = l.skip(l.next)
	}
	if l.next > l.upTo {
		l.ended = true
		return nil
	}
	buf, left, err := l.t.direct.Next(ctx, layout.StreamInbox, l.subject, l.next, l.batch, readBytes)
	if err != nil {
		return err
	}
	l.buf, l.ended = buf, left == 0
	if n := len(l.buf); n > 0 {
		l.next = l.buf[n-1].Seq + 1
	}
	return nil
}

// lanes are the four lanes of an inbox, from the first message up to upTo.
func (t *Tenant) lanes(k subjects.Key, upTo uint64) []*lane {
	all := make([]*lane, subjects.Lanes)
	for i := range all {
		l := subjects.Lane(i)
		all[i] = &lane{t: t, subject: subjects.Inbox(k, l), lane: l, next: 1, upTo: upTo}
	}
	return all
}

// merge yields the messages of several lanes in the order of their sequences.
func merge(ctx context.Context, lanes []*lane) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if len(lanes) == 0 {
			return
		}
		key, err := lanes[0].t.proof(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			var first *lane
			var head *direct.Stored
			for _, l := range lanes {
				s, err := l.peek(ctx)
				if err != nil {
					yield(nil, fmt.Errorf("ops: read the inbox: %w", err))
					return
				}
				if s != nil && (head == nil || s.Seq < head.Seq) {
					first, head = l, s
				}
			}
			if first == nil {
				return
			}
			first.pop()
			if !yield(newMessage(key, head), nil) {
				return
			}
		}
	}
}
