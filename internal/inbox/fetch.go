package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// fetchTimeout bounds one request to the store; within it a request that is
// lost with its connection, or not answered, is sent again.
const (
	fetchTimeout = 10 * time.Second
	fetchAttempt = 3 * time.Second
	fetchPause   = 20 * time.Millisecond
)

// fetchesAtOnce bounds the requests under way, and with it the memory of what
// they bring.
const fetchesAtOnce = 32

// fetcher reads stored messages with batched Direct Get (ADR-31) on a
// connection of its own: many requests under way, answers matched by the
// reply subject.
type fetcher struct {
	nc    *nats.Conn
	slots chan struct{}
	// inbox and cursor answer "the last message of these subjects".
	inbox, cursor *lastBatcher

	base string
	sub  *nats.Subscription
	// ctx ends with the fetcher, and with it what its own goroutines ask.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	open    map[string]*fetch
	stopped bool
}

// fetch is one request under way. Its fields belong to the subscription's
// goroutine until done is closed.
type fetch struct {
	msgs []stored
	last uint64 // sequence of the last message, which the next one repeats
	left int    // Nats-Num-Pending of the end marker
	err  error
	// multi: the request is for the last messages of several subjects.
	multi bool
	done  chan struct{}
	// lost is closed when the connection was re-established meanwhile.
	lost chan struct{}
}

// stored is a message as Direct Get returns it.
type stored struct {
	subject string
	seq     uint64
	time    int64
	msg     *nats.Msg
}

func newFetcher(nc *nats.Conn) *fetcher {
	f := &fetcher{nc: nc, slots: make(chan struct{}, fetchesAtOnce), open: make(map[string]*fetch)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.inbox = &lastBatcher{fetch: f, stream: subjects.StreamInbox, seqOnly: true}
	f.cursor = &lastBatcher{fetch: f, stream: subjects.StreamCursor}
	return f
}

func (f *fetcher) start() error {
	f.base = f.nc.NewInbox() + "."
	sub, err := f.nc.Subscribe(f.base+"*", f.receive)
	if err != nil {
		return fmt.Errorf("inbox: subscribe for Direct Get: %w", err)
	}
	f.sub = sub
	f.wg.Go(f.watch)
	// Bounded by fetchesAtOnce and max_bytes instead.
	return sub.SetPendingLimits(-1, -1)
}

// work runs a function on a goroutine that stop waits for; false after stop.
func (f *fetcher) work(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false
	}
	f.wg.Go(run)
	return true
}

// watch gives up what was asked on a connection that is gone.
func (f *fetcher) watch() {
	status := f.nc.StatusChanged(nats.CONNECTED)
	defer f.nc.RemoveStatusListener(status)
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-status:
		}
		f.mu.Lock()
		for token, q := range f.open {
			close(q.lost)
			delete(f.open, token)
		}
		f.mu.Unlock()
	}
}

func (f *fetcher) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	if f.sub != nil {
		_ = f.sub.Unsubscribe()
	}
	f.cancel()
	f.wg.Wait()
}

// getRequest is the body of a Direct Get. Fields that are zero are left out.
type getRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	MultiLast []string   `json:"multi_last,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// messages reads up to batch messages of one literal subject from seq on;
// left is how many more the store has.
func (f *fetcher) messages(ctx context.Context, subject string, seq uint64, batch, maxBytes int) (msgs []*Message, left int, err error) {
	got, left, err := f.do(ctx, subjects.StreamInbox, &getRequest{Seq: max(seq, 1), NextFor: subject, Batch: batch, MaxBytes: maxBytes})
	if errors.Is(err, errUnreadable) {
		// How many follow is not known; there is at least this one.
		if left, err = 1, nil; len(got) == 0 {
			var one *stored
			if one, err = f.raw(ctx, subjects.StreamInbox, rawRequest{Seq: max(seq, 1), NextFor: subject}); one != nil {
				got = append(got, *one)
			}
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("inbox: read %s from %d: %w", subject, seq, err)
	}
	if len(got) == 0 {
		return nil, 0, nil
	}
	msgs = make([]*Message, 0, len(got))
	for _, s := range got {
		if m, ok := newMessage(reader.Entry{Subject: s.subject, Seq: s.seq, Time: s.time, Header: s.msg.Header, Data: s.msg.Data}); ok {
			msgs = append(msgs, m)
		}
	}
	return msgs, left, nil
}

// bySeq is the subject of one message.
func (f *fetcher) bySeq(ctx context.Context, seq uint64) (string, error) {
	got, _, err := f.do(ctx, subjects.StreamInbox, &getRequest{Seq: seq, Batch: 1})
	switch {
	case err != nil:
		return "", fmt.Errorf("inbox: read message %d: %w", seq, err)
	case len(got) == 0 || got[0].seq != seq:
		return "", fmt.Errorf("inbox: message %d is gone", seq)
	}
	return got[0].subject, nil
}

// do sends one request and waits for all of its answer.
func (f *fetcher) do(ctx context.Context, stream string, req *getRequest) ([]stored, int, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return nil, 0, err
	}
	for {
		msgs, left, err := f.attempt(ctx, stream, body, len(req.MultiLast) > 0)
		if !errors.Is(err, errFetchAgain) {
			return msgs, left, err
		}
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// errFetchAgain says that a request was lost, not refused.
var errFetchAgain = errors.New("no answer")

func (f *fetcher) attempt(ctx context.Context, stream string, body []byte, multi bool) ([]stored, int, error) {
	q := &fetch{multi: multi, done: make(chan struct{}), lost: make(chan struct{})}
	f.mu.Lock()
	f.next++
	token := strconv.FormatUint(f.next, 36)
	f.open[token] = q
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.open, token)
		f.mu.Unlock()
	}()
	if err := f.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, f.base+token, body); err != nil {
		return nil, 0, err
	}
	late := time.NewTimer(fetchAttempt)
	defer late.Stop()
	select {
	case <-q.done:
		return q.msgs, q.left, q.err
	case <-q.lost:
		return nil, 0, errFetchAgain
	case <-late.C:
		return nil, 0, errFetchAgain
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// receive gets every part of every answer.
func (f *fetcher) receive(m *nats.Msg) {
	f.mu.Lock()
	q := f.open[m.Subject[len(f.base):]]
	f.mu.Unlock()
	if q == nil {
		return // given up
	}
	select {
	case <-q.done:
		return
	default:
	}
	if end := q.add(m); end {
		close(q.done)
	}
}

// errUnreadable comes with the messages before the one it is about.
var errUnreadable = errors.New("a message has headers that cannot be read")

var errFetchHole = errors.New("a part of the answer is missing")

// add takes one part of an answer and says whether it was the end.
func (q *fetch) add(m *nats.Msg) (end bool) {
	if m.Header == nil {
		q.err = errUnreadable
		return true
	}
	// Only a stored message has a sequence; a status header it may have too,
	// from its publisher.
	if len(m.Header["Nats-Sequence"]) == 0 {
		q.finish(m)
		return true
	}
	s, err := parseStored(m)
	if err == nil {
		if before, _ := strconv.ParseUint(lastValue(m.Header, "Nats-Last-Sequence"), 10, 64); before != q.last {
			err = errFetchHole
		}
	}
	if err != nil {
		q.err = err
		return true
	}
	q.msgs = append(q.msgs, s)
	q.last = s.seq
	return false
}

// finish takes the end of an answer, or the refusal of the request.
func (q *fetch) finish(m *nats.Msg) {
	switch status := m.Header.Get("Status"); status {
	case "404": // no message, or one that went while the answer was made
		if len(q.msgs) > 0 {
			q.err = errFetchAgain
		} else if q.multi && m.Header.Get("Description") != "No Results" {
			q.err = errUnreadable
		}
	case "204": // end of batch
		q.left, _ = strconv.Atoi(lastValue(m.Header, "Nats-Num-Pending"))
		if last, _ := strconv.ParseUint(lastValue(m.Header, "Nats-Last-Sequence"), 10, 64); last != q.last {
			q.err = errFetchHole
		}
	case "503": // no server holds the stream now
		q.err = errFetchAgain
	default:
		q.err = fmt.Errorf("%s %s", status, m.Header.Get("Description"))
	}
}

func parseStored(m *nats.Msg) (stored, error) {
	seq, err := strconv.ParseUint(lastValue(m.Header, "Nats-Sequence"), 10, 64)
	if err != nil {
		return stored{}, fmt.Errorf("a Direct Get without a sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, lastValue(m.Header, "Nats-Time-Stamp"))
	if err != nil {
		return stored{}, fmt.Errorf("a Direct Get without a time: %w", err)
	}
	return stored{subject: lastValue(m.Header, "Nats-Subject"), seq: seq, time: at.UnixNano(), msg: m}, nil
}

// lastValue is the header that the server added: a publisher may have stored
// one of the same name, which then stands before it.
func lastValue(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
