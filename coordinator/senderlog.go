package coordinator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
)

// senderLog remembers which service has sent what the route stream holds, by
// sequence. JetStream does not store who has sent a message, so a coordinator stores
// the log beside the stream. The one that starts next reads it, and services go on
// taking turns in what was stored before.
//
// It is only used for taking turns. What is not in it has an unknown sender.
type senderLog struct {
	mu   sync.Mutex
	runs []senderRun // in order, without overlap
	news bool        // something was added since takeNews
}

// senderRun is a run of sequences from one sender. There may be messages of devices
// among them, which can be told by themselves.
type senderRun struct {
	from, to uint64
	sender   string
}

const (
	// maxRuns bounds the log, and with it what is stored: some 100 KB. Past it the
	// oldest runs are forgotten, which are of the messages that go first.
	maxRuns = 8 << 10
	// saveSendersEvery is how often the log is stored, if it has changed.
	saveSendersEvery = 500 * time.Millisecond
	// saveSendersTimeout bounds how long that may take.
	saveSendersTimeout = 5 * time.Second
	// saveSendersFrom is of how many messages it is stored: of fewer there are next
	// to no turns.
	saveSendersFrom = 2 * passFresh
)

var errSenderLog = errors.New("coordinator: the stored log of senders cannot be read")

// add records the sender of a message. It costs next to nothing where messages come
// in order.
func (l *senderLog) add(seq uint64, sender string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, found := l.findLocked(seq)
	if found {
		return
	}
	if sender == devices {
		if n > 0 && l.runs[n-1].to+1 == seq {
			l.runs[n-1].to = seq
		}
		return
	}
	l.news = true
	before := n > 0 && l.runs[n-1].sender == sender && l.runs[n-1].to+1 == seq
	after := n < len(l.runs) && l.runs[n].sender == sender && seq+1 == l.runs[n].from
	switch {
	case before && after:
		l.runs[n-1].to = l.runs[n].to
		l.runs = slices.Delete(l.runs, n, n+1)
	case before:
		l.runs[n-1].to = seq
	case after:
		l.runs[n].from = seq
	default:
		l.runs = slices.Insert(l.runs, n, senderRun{seq, seq, sender})
		if len(l.runs) > maxRuns { // some at once, as each deletion moves all
			l.runs = slices.Delete(l.runs, 0, maxRuns/8)
		}
	}
}

// of returns the sender of a message, or unknown.
func (l *senderLog) of(seq uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, found := l.findLocked(seq); found {
		return l.runs[n].sender
	}
	return unknown
}

// findLocked returns the run that holds a sequence, or where one would stand.
func (l *senderLog) findLocked(seq uint64) (n int, found bool) {
	n, _ = slices.BinarySearchFunc(l.runs, seq, func(r senderRun, seq uint64) int { return cmp.Compare(r.to, seq) })
	return n, n < len(l.runs) && l.runs[n].from <= seq
}

// forgetBefore forgets what is below a sequence.
func (l *senderLog) forgetBefore(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, found := l.findLocked(seq)
	l.runs = slices.Delete(l.runs, 0, n)
	if found {
		l.runs[0].from = seq
	}
}

// takeNews reports whether something was added since the last call.
func (l *senderLog) takeNews() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.news
	l.news = false
	return was
}

// storedSenders is how the log is stored. Sequences are of the stream that was made
// at Created. Of each run, Runs has three numbers: how far it begins behind the end
// of the one before, its length, and the index of its sender.
type storedSenders struct {
	Created time.Time `json:"created"`
	Senders []string  `json:"senders"`
	Runs    []uint64  `json:"runs"`
}

// encode returns what is to be stored, of a stream that was made at a time; nil:
// nothing is worth it.
func (l *senderLog) encode(created time.Time) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := uint64(0)
	for _, r := range l.runs {
		known += min(r.to-r.from, saveSendersFrom) + 1
	}
	if known < saveSendersFrom {
		return nil, nil
	}
	s := storedSenders{Created: created}
	index := make(map[string]uint64)
	end := uint64(0)
	for _, r := range l.runs {
		n, ok := index[r.sender]
		if !ok {
			n = uint64(len(s.Senders))
			index[r.sender] = n
			s.Senders = append(s.Senders, r.sender)
		}
		s.Runs = append(s.Runs, r.from-end, r.to-r.from+1, n)
		end = r.to
	}
	return json.Marshal(s)
}

// decode reads what was stored of the same stream.
func (l *senderLog) decode(data []byte, created time.Time) error {
	var s storedSenders
	if err := json.Unmarshal(data, &s); err != nil {
		return errors.Join(errSenderLog, err)
	}
	if !s.Created.Equal(created) {
		return nil // its sequences mean other messages
	}
	if len(s.Runs)%3 != 0 || len(s.Runs) > 3*maxRuns {
		return errSenderLog
	}
	var runs []senderRun
	end := uint64(0)
	for run := range slices.Chunk(s.Runs, 3) {
		gap, length, sender := run[0], run[1], run[2]
		if gap == 0 || length == 0 || gap > math.MaxUint64-end || length-1 > math.MaxUint64-end-gap || sender >= uint64(len(s.Senders)) {
			return errSenderLog
		}
		r := senderRun{end + gap, end + gap + length - 1, s.Senders[sender]}
		if r.sender == unknown {
			return errSenderLog
		}
		runs, end = append(runs, r), r.to
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = runs
	return nil
}

// loadSenders reads the log that was stored by the coordinator before. Without it
// there are no turns in what is stored already, so an error is only logged.
func (r *router) loadSenders(ctx context.Context) {
	found, err := r.c.direct.Last(layout.StreamCursor, false).Get(ctx, []string{layout.RouteSenders})
	if err == nil && found[0] != nil {
		err = r.sent.decode(found[0].Data, r.stream.CachedInfo().Created)
	}
	if err != nil {
		r.log.Warn("services take no turns in what they have routed before the start", "err", err)
	}
}

// keepSenders stores the log now and then, until the router stops.
func (r *router) keepSenders() {
	tick := time.NewTicker(saveSendersEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
			if r.sent.takeNews() {
				r.saveSenders(r.ctx)
			}
		}
	}
}

// saveSenders stores the log, if the stream holds anything of what it knows.
func (r *router) saveSenders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveSendersTimeout)
	defer cancel()
	if err := r.trySaveSenders(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn("who has sent what waits to be routed is not stored", "err", err)
	}
}

func (r *router) trySaveSenders(ctx context.Context) error {
	first, err := r.c.direct.Run(ctx, layout.StreamRoute, 1, 1)
	if err != nil || len(first) == 0 { // none, or a server that lags
		return err
	}
	r.sent.forgetBefore(first[0].Seq)
	body, err := r.sent.encode(r.stream.CachedInfo().Created)
	if err != nil || body == nil {
		return err
	}
	_, err = r.c.js.Publish(ctx, layout.RouteSenders, body)
	return err
}
