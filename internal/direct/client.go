package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/headers"
	"github.com/rccs-io/rccs/internal/shard"
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

// Client reads stored messages with batched Direct Get (ADR-31) on a
// connection of its own: many requests under way, answers matched by the
// reply subject.
type Client struct {
	nc    *nats.Conn
	shard shard.Shard
	slots chan struct{}

	base string
	sub  *nats.Subscription
	// ctx ends with the Client, and with it what its own goroutines ask.
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
	msgs  []Stored
	last  uint64 // sequence of the last message, which the next one repeats
	left  int    // Nats-Num-Pending of the end marker
	err   error
	shard shard.Shard
	// multi: the request is for the last messages of several subjects.
	multi bool
	done  chan struct{}
	// lost is closed when the connection was re-established meanwhile.
	lost chan struct{}
}

// Stored is a message as Direct Get returns it. Header holds what the server
// added behind what the publisher set.
type Stored struct {
	Subject string
	Seq     uint64
	Time    int64 // when it was stored, Unix nanoseconds
	Header  nats.Header
	Data    []byte
}

// errStopped is returned once the client has been stopped.
var errStopped = errors.New("direct: the client has stopped")

// New makes a client; it works after Start. The connection should carry
// little else: Direct Gets run in the server's read loop of theirs.
func New(nc *nats.Conn) *Client {
	c := &Client{nc: nc, slots: make(chan struct{}, fetchesAtOnce), open: make(map[string]*fetch)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Conn returns the connection that the client reads with.
func (c *Client) Conn() *nats.Conn { return c.nc }

// In has the client read the streams of a shard, and returns it. Call it before
// Start.
func (c *Client) In(s shard.Shard) *Client {
	c.shard = s
	return c
}

// Shard returns the shard that is read.
func (c *Client) Shard() shard.Shard { return c.shard }

// Start listens for answers.
func (c *Client) Start() error {
	c.base = c.nc.NewInbox() + "."
	sub, err := c.nc.Subscribe(c.base+"*", c.receive)
	if err != nil {
		return fmt.Errorf("direct: subscribe: %w", err)
	}
	c.sub = sub
	c.wg.Go(c.watch)
	// Bounded by fetchesAtOnce and max_bytes instead.
	return sub.SetPendingLimits(-1, -1)
}

// Work runs a function on a goroutine that Stop waits for; false after Stop.
func (c *Client) Work(run func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	c.wg.Go(run)
	return true
}

// watch gives up what was asked on a connection that is gone.
func (c *Client) watch() {
	status := c.nc.StatusChanged(nats.CONNECTED)
	defer c.nc.RemoveStatusListener(status)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-status:
		}
		c.mu.Lock()
		for token, q := range c.open {
			close(q.lost)
			delete(c.open, token)
		}
		c.mu.Unlock()
	}
}

// Stop ends what is under way with an error.
func (c *Client) Stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	if c.sub != nil {
		_ = c.sub.Unsubscribe()
	}
	c.cancel()
	c.wg.Wait()
}

// Request is the body of a Direct Get. Fields that are zero are left out.
type Request struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	MultiLast []string   `json:"multi_last,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// Next reads up to batch messages of one literal subject from seq on; left is
// how many more the store has.
func (c *Client) Next(ctx context.Context, stream, subject string, seq uint64, batch, maxBytes int) (msgs []Stored, left int, err error) {
	msgs, left, err = c.Get(ctx, stream, &Request{Seq: max(seq, 1), NextFor: subject, Batch: batch, MaxBytes: maxBytes})
	if errors.Is(err, errUnreadable) {
		// How many follow is not known; there is at least this one.
		if left, err = 1, nil; len(msgs) == 0 {
			var one *Stored
			if one, err = c.raw(ctx, stream, rawRequest{Seq: max(seq, 1), NextFor: subject}); one != nil {
				msgs = append(msgs, *one)
			}
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("direct: read %s from %d: %w", subject, seq, err)
	}
	if len(msgs) == 0 {
		left = 0
	}
	return msgs, left, nil
}

// Run reads up to batch messages of any subject from seq on.
func (c *Client) Run(ctx context.Context, stream string, seq uint64, batch int) ([]Stored, error) {
	msgs, _, err := c.Get(ctx, stream, &Request{Seq: max(seq, 1), Batch: batch})
	if errors.Is(err, errUnreadable) && len(msgs) > 0 {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("direct: read %s from %d: %w", stream, seq, err)
	}
	return msgs, nil
}

// Get sends one request and waits for all of its answer; left is how many
// more messages match. It does not find fault with an answer of none.
func (c *Client) Get(ctx context.Context, stream string, req *Request) (msgs []Stored, left int, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, err := json.Marshal(c.stored(req))
	if err != nil {
		return nil, 0, err
	}
	for {
		msgs, left, err := c.attempt(ctx, stream, body, len(req.MultiLast) > 0)
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

// stored is the request as the shard's streams know its subjects.
func (c *Client) stored(req *Request) *Request {
	if c.shard.Alone() {
		return req
	}
	own := *req
	own.NextFor = c.shard.Stored(req.NextFor)
	own.MultiLast = make([]string, len(req.MultiLast))
	for i, subject := range req.MultiLast {
		own.MultiLast[i] = c.shard.Stored(subject)
	}
	return &own
}

// errFetchAgain says that a request was lost, not refused.
var errFetchAgain = errors.New("no answer")

func (c *Client) attempt(ctx context.Context, stream string, body []byte, multi bool) ([]Stored, int, error) {
	q := &fetch{shard: c.shard, multi: multi, done: make(chan struct{}), lost: make(chan struct{})}
	c.mu.Lock()
	c.next++
	token := strconv.FormatUint(c.next, 36)
	c.open[token] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.open, token)
		c.mu.Unlock()
	}()
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+c.shard.Stream(stream), c.base+token, body); err != nil {
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
func (c *Client) receive(m *nats.Msg) {
	c.mu.Lock()
	q := c.open[m.Subject[len(c.base):]]
	c.mu.Unlock()
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

// add takes one part of an answer and reports whether it was the end.
func (q *fetch) add(m *nats.Msg) (end bool) {
	if m.Header == nil || headers.EndEarly(m) {
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
	s.Subject = q.shard.Plain(s.Subject)
	q.shard.PlainHeader(s.Subject, s.Header)
	q.msgs = append(q.msgs, s)
	q.last = s.Seq
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

func parseStored(m *nats.Msg) (Stored, error) {
	seq, err := strconv.ParseUint(lastValue(m.Header, "Nats-Sequence"), 10, 64)
	if err != nil {
		return Stored{}, fmt.Errorf("direct: a message Get without a sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, lastValue(m.Header, "Nats-Time-Stamp"))
	if err != nil {
		return Stored{}, fmt.Errorf("direct: a message Get without a time: %w", err)
	}
	return Stored{Subject: lastValue(m.Header, "Nats-Subject"), Seq: seq, Time: at.UnixNano(), Header: m.Header, Data: m.Data}, nil
}

// lastValue is the header that the server added: a publisher may have stored
// one of the same name, which then stands before it.
func lastValue(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
