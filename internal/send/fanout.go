package send

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// A message for several devices is stored copy by copy. JetStream's atomic
// batches would make it all or none by themselves, but on a stream with one
// copy the server makes a store with files of its own for each batch: some 6 ms
// in which the stream takes nothing else, measured.
//
// The first copy names all recipients. It is waited for, so that nothing of
// this sender overtakes the others; then those are stored, and the sender is
// told when all are. Should one fail, or this process die in between, the
// sender is not told accepted and sends the message again under the same id.
// What was stored before is stored once, and a first copy that is a repeat says
// whom the message is for, whomever it names now.

// fanOutTimeout bounds the wait for the first copy.
const fanOutTimeout = 15 * time.Second

// fanOut is a message of which not all copies are stored.
type fanOut struct {
	*pending
	duplicate bool
	keys      []subjects.Key

	mu   sync.Mutex
	seqs []uint64
	left int
	err  error // the first
}

// fanOut stores a message for several devices.
func (in *Intake) fanOut(ctx context.Context, from *From, e *wire.Envelope, targets []subjects.DeviceID, body []byte, w Waiter, tell bool) {
	p := in.pending(ctx, from, e, w, tell)
	keys := make([]subjects.Key, len(targets))
	for n, device := range targets {
		keys[n] = from.peer(device)
	}
	first, err := in.firstCopy(ctx, from, e, keys, body)
	if err == nil && first.Duplicate {
		keys, err = in.recipients(ctx, first.Seq)
	}
	if err != nil {
		p.finish(nil, err)
		return
	}
	f := &fanOut{pending: p, duplicate: first.Duplicate, keys: keys, seqs: make([]uint64, len(keys)), left: len(keys)}
	f.stored(0, first, nil)
	for n := 1; n < len(keys); n++ {
		in.opts.Publisher.Publish(envelope.Inbox(e, in.sender(from), keys[n], n, body), func(r inbox.Receipt, err error) { f.stored(n, r, err) })
	}
}

// firstCopy stores the copy that names all recipients, and returns when it is
// stored.
func (in *Intake) firstCopy(ctx context.Context, from *From, e *wire.Envelope, keys []subjects.Key, body []byte) (inbox.Receipt, error) {
	msg := envelope.Inbox(e, in.sender(from), keys[0], 0, body)
	names := make([]string, len(keys))
	for n, k := range keys {
		_, names[n], _ = strings.Cut(string(k), ".")
	}
	msg.Header[layout.HeaderCopies] = []string{strings.Join(names, " ")}
	type answer struct {
		inbox.Receipt
		err error
	}
	stored := make(chan answer, 1)
	in.opts.Publisher.Publish(msg, func(r inbox.Receipt, err error) { stored <- answer{r, err} })
	select {
	case a := <-stored:
		return a.Receipt, a.err
	case <-time.After(fanOutTimeout):
		return inbox.Receipt{}, inbox.ErrPublishTimeout
	case <-ctx.Done():
		return inbox.Receipt{}, ctx.Err()
	}
}

// recipients are those of an earlier message, of which seq is the first copy.
func (in *Intake) recipients(ctx context.Context, seq uint64) ([]subjects.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, repeatTimeout)
	defer cancel()
	all, err := in.opts.Inbox.Recipients(ctx, seq)
	keys := make([]subjects.Key, len(all))
	for n, to := range all {
		keys[n] = to.Key
	}
	return keys, err
}

// stored hears of one copy, on the publisher's goroutine.
func (f *fanOut) stored(n int, r inbox.Receipt, err error) {
	defer f.contain()
	f.mu.Lock()
	f.seqs[n] = r.Seq
	if f.left--; f.err == nil {
		f.err = err
	}
	all, err := f.left == 0, f.err
	f.mu.Unlock()
	if !all {
		return
	}
	if err != nil || !f.tell {
		f.finish(nil, err)
		return
	}
	a := &wire.Accepted{OriginalID: f.id, Duplicate: f.duplicate}
	for i, k := range f.keys {
		if address, err := k.Address(); err == nil {
			a.Recipients = append(a.Recipients, wire.Recipient{DeviceID: address.Device, Seq: f.seqs[i]})
		}
	}
	f.finish(a, nil)
}
