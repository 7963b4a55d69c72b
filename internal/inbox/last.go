package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// lastSubjects is how many subjects one multi_last request may name: the
// server refuses an answer of more than 1,024 messages.
const lastSubjects = 1024

// lastBytes bounds one answer. What does not fit is asked for again.
const lastBytes = 4 << 20

// lastBatcher answers "the last message of each of these subjects". While one
// request is under way the next callers gather, so that a storm of attaching
// devices costs a request for hundreds of them instead of one each, and a
// single device waits for nobody.
type lastBatcher struct {
	fetch  *fetcher
	stream string
	// seqOnly: only the sequences matter.
	seqOnly bool

	mu      sync.Mutex
	waiting []*lastCall
	running bool
}

type lastCall struct {
	subjects []string
	found    []*stored // by index of subjects; nil: no message
	err      error
	done     chan struct{}
}

// get returns the last message of each subject, nil where there is none.
// subjects are literal and at most lastSubjects.
func (b *lastBatcher) get(ctx context.Context, subjects []string) ([]*stored, error) {
	call := &lastCall{subjects: subjects, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, call)
	if !b.running {
		if b.running = b.fetch.work(b.run); !b.running {
			b.waiting = nil
			b.mu.Unlock()
			return nil, ErrStopped
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
func (b *lastBatcher) run() {
	for {
		b.mu.Lock()
		n, names := 0, 0
		for n < len(b.waiting) && names+len(b.waiting[n].subjects) <= lastSubjects {
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

func (b *lastBatcher) serve(calls []*lastCall) {
	names := make([]string, 0, lastSubjects)
	for _, c := range calls {
		names = append(names, c.subjects...)
	}
	found, err := b.ask(names)
	for _, c := range calls {
		c.err = err
		if err == nil {
			c.found = make([]*stored, len(c.subjects))
			for i, name := range c.subjects {
				c.found[i] = found[name]
			}
		}
		close(c.done)
	}
}

// askEach fills found with one request a subject.
func (b *lastBatcher) askEach(names []string, found map[string]*stored) error {
	for _, name := range names {
		ctx, cancel := context.WithTimeout(b.fetch.ctx, fetchTimeout)
		last, err := b.fetch.raw(ctx, b.stream, rawRequest{LastFor: name})
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

func (b *lastBatcher) ask(names []string) (map[string]*stored, error) {
	found := make(map[string]*stored)
	from := uint64(0)
	for {
		req := &getRequest{MultiLast: names, MaxBytes: lastBytes, Seq: from}
		msgs, left, err := b.fetch.do(b.fetch.ctx, b.stream, req)
		if errors.Is(err, errUnreadable) {
			return found, b.askEach(names, found)
		}
		if err != nil {
			return nil, fmt.Errorf("inbox: last messages of %d subjects: %w", len(names), err)
		}
		for i := range msgs {
			if b.seqOnly {
				msgs[i].msg = nil // it may be large, and many are asked for
			}
			found[msgs[i].subject] = &msgs[i]
		}
		if left == 0 || len(msgs) == 0 {
			return found, nil
		}
		from = msgs[len(msgs)-1].seq + 1 // answers come in order of sequence
	}
}
