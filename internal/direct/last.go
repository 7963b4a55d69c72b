package direct

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// LastSubjects is how many subjects one [Last.Get] may name: the server refuses
// an answer of more than 1,024 messages.
const LastSubjects = 1024

// lastBytes bounds one answer. What does not fit is asked for again.
const lastBytes = 4 << 20

// Last answers "the last message of each of these subjects" of one stream. While one
// request is under way the next callers gather, so that a storm of attaching
// devices costs a request for hundreds of them instead of one each, and a
// single device waits for nobody.
type Last struct {
	client *Client
	stream string
	// seqOnly: nothing but the sequences matters.
	seqOnly bool

	mu      sync.Mutex
	waiting []*lastCall
	running bool
}

// Last makes one for a stream. seqOnly says that nothing but the sequences
// matters: the messages come without header and data.
func (c *Client) Last(stream string, seqOnly bool) *Last {
	return &Last{client: c, stream: stream, seqOnly: seqOnly}
}

type lastCall struct {
	subjects []string
	found    []*Stored // by index of subjects; nil: no message
	err      error
	done     chan struct{}
}

// Get returns the last message of each subject, nil where there is none.
// subjects are literal and at most LastSubjects.
func (b *Last) Get(ctx context.Context, subjects []string) ([]*Stored, error) {
	if len(subjects) > LastSubjects { // it would never have its turn
		return nil, fmt.Errorf("direct: last messages of %d subjects, at most %d at a time", len(subjects), LastSubjects)
	}
	call := &lastCall{subjects: subjects, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, call)
	if !b.running {
		if b.running = b.client.Work(b.run); !b.running {
			b.waiting = nil
			b.mu.Unlock()
			return nil, errStopped
		}
	}
	b.mu.Unlock()
	select {
	case <-call.done:
		return call.found, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run serves until nobody waits. Each request has its own time-out, so it ends.
func (b *Last) run() {
	for {
		b.mu.Lock()
		n, names := 0, 0
		for n < len(b.waiting) && names+len(b.waiting[n].subjects) <= LastSubjects {
			names += len(b.waiting[n].subjects)
			n++
		}
		calls := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		if n == 0 {
			b.running = false
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		b.serve(calls)
	}
}

func (b *Last) serve(calls []*lastCall) {
	names := make([]string, 0, LastSubjects)
	for _, c := range calls {
		names = append(names, c.subjects...)
	}
	found, err := b.ask(names)
	for _, c := range calls {
		c.err = err
		if err == nil {
			c.found = make([]*Stored, len(c.subjects))
			for i, name := range c.subjects {
				c.found[i] = found[name]
			}
		}
		close(c.done)
	}
}

// askEach fills found with one request a subject.
func (b *Last) askEach(names []string, found map[string]*Stored) error {
	for _, name := range names {
		ctx, cancel := context.WithTimeout(b.client.ctx, fetchTimeout)
		last, err := b.client.raw(ctx, b.stream, rawRequest{LastFor: name})
		cancel()
		if err != nil {
			return err
		}
		if last != nil {
			found[name] = last
		}
	}
	return nil
}

func (b *Last) ask(names []string) (map[string]*Stored, error) {
	found := make(map[string]*Stored)
	from := uint64(0)
	for {
		req := &Request{MultiLast: names, MaxBytes: lastBytes, Seq: from}
		msgs, left, err := b.client.Get(b.client.ctx, b.stream, req)
		if errors.Is(err, errUnreadable) {
			return found, b.askEach(names, found)
		}
		if err != nil {
			return nil, fmt.Errorf("direct: last messages of %d subjects: %w", len(names), err)
		}
		for i := range msgs {
			if b.seqOnly {
				msgs[i].Header, msgs[i].Data = nil, nil // it may be large, and many are asked for
			}
			found[msgs[i].Subject] = &msgs[i]
		}
		if left == 0 || len(msgs) == 0 {
			return found, nil
		}
		from = msgs[len(msgs)-1].Seq + 1 // answers come in order of sequence
	}
}
