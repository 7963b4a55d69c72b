package roster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// Roster has the devices of one tenant, and knows which of them are online.
type Roster struct {
	opts    Options
	id      string // of this roster; its writes carry it
	edge    string // id in an edge; empty when it only follows
	devices *reader.Reader
	session *reader.Reader
	leases  *reader.Reader
	out     *outbox
	caps    capabilities
	writes  atomic.Uint64 // numbers this roster's writes of sessions
	renewed atomic.Int64  // when the lease was last renewed, in ns since started: nobody sets the monotonic clock
	started time.Time
	// confirmed is when the renewal was sent that was confirmed last, and doubted
	// when it was last found that before it the lease may have ended; as renewed.
	confirmed, doubted atomic.Int64
	// leased has the changes that the last stored lease shows of this edge.
	leased  atomic.Value
	stopped atomic.Bool
	quit    chan struct{}
	wg      sync.WaitGroup

	// told orders what others are told. Lock it before mu.
	told sync.Mutex

	mu    sync.RWMutex
	live  bool                   // everything stored before Start has been read
	users map[string]userDevices // by the user's token
	count int                    // of registered devices
	edges map[string]*edgeState
	slots map[subjects.Key]*slot // of devices whose sessions this edge writes
	empty chan struct{}          // closed when slots becomes empty; nil unless waited for
}

// device is what is known of one device. There are many, so it is kept small.
type device struct {
	key    subjects.Key
	id     subjects.DeviceID
	stored *Record  // what the bucket says; nil: not registered
	mine   *Record  // what was registered here and is not stored yet
	recRev uint64   // sequence of stored, or of its removal
	sess   *session // nil when it never had one, or it was forgotten
	rev    uint64   // sequence of the session's entry, or of its removal
}

// record returns what the device is, or nil if it is not registered.
func (d *device) record() *Record {
	if d.mine != nil {
		return d.mine
	}
	return d.stored
}

// New makes a roster; nothing runs until Start.
func New(opts Options) (*Roster, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	r := &Roster{
		opts: opts, id: nuid.Next(), quit: make(chan struct{}), out: newOutbox(opts.Put),
		users: make(map[string]userDevices), edges: make(map[string]*edgeState), slots: make(map[subjects.Key]*slot),
	}
	if opts.Edge != nil {
		r.edge = r.id
	}
	for _, b := range []struct {
		bucket string
		handle func(reader.Entry)
		reader **reader.Reader
		beat   time.Duration
	}{
		{layout.BucketDevices, r.onDevice, &r.devices, 0},
		{layout.BucketSessions, r.onSession, &r.session, 0},
		{layout.BucketEdges, r.onEdge, &r.leases, r.beat()},
	} {
		rd, err := reader.New(reader.Options{
			Conn: opts.Read, Stream: "KV_" + b.bucket, Shard: opts.Shard, FromStart: true, Handle: b.handle, Logger: opts.Logger, Heartbeat: b.beat,
		})
		if err != nil {
			return nil, err
		}
		*b.reader = rd
	}
	return r, nil
}

// readers returns the readers in the order in which they start. The edges come
// last, so that an edge which sessions name and no lease does is dead.
func (r *Roster) readers() []*reader.Reader {
	return []*reader.Reader{r.devices, r.session, r.leases}
}

// Start returns when everything stored has been read. An edge then has its lease,
// and the sessions of earlier processes with its name have ended.
func (r *Roster) Start(ctx context.Context) error {
	r.started = time.Now()
	r.wg.Go(r.out.run)
	err := r.startReaders(ctx)
	if err == nil && r.edge != "" {
		err = r.begin(ctx)
	}
	if err != nil {
		r.stopped.Store(true)
		return errors.Join(err, r.end(context.WithoutCancel(ctx)))
	}
	r.wg.Go(r.watch)
	if r.edge != "" {
		r.wg.Go(r.reportLoop)
	}
	return nil
}

func (r *Roster) startReaders(ctx context.Context) error {
	for _, rd := range r.readers() {
		if err := rd.Start(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.live = true
	r.mu.Unlock()
	r.noteUnknownEdges()
	return nil
}

// Stop ends this edge's sessions, which can be resumed, and its lease. It returns
// when that is stored. It is idempotent; a roster that was never started has
// nothing to stop.
func (r *Roster) Stop(ctx context.Context) error {
	if r.stopped.Swap(true) || r.started.IsZero() {
		return nil
	}
	var err error
	if r.edge != "" {
		err = r.finish(ctx)
	}
	return errors.Join(err, r.out.flush(ctx), r.end(ctx))
}

// end stops the goroutines and readers.
func (r *Roster) end(ctx context.Context) error {
	close(r.quit)
	r.out.close()
	var errs []error
	for _, rd := range r.readers() {
		errs = append(errs, rd.Stop(ctx))
	}
	gone := make(chan struct{})
	go func() { r.wg.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("roster: still storing: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// Healthy returns why the roster may be out of date: nothing was heard of a
// bucket for longer than silence, or its reader has failed for good.
func (r *Roster) Healthy(silence time.Duration) error {
	for _, rd := range r.readers() {
		if err := rd.Healthy(silence); err != nil {
			return fmt.Errorf("the devices: %w", err)
		}
	}
	return nil
}

// deleted reports whether an entry of a bucket marks a removal.
func deleted(e *reader.Entry) bool {
	op := e.Header.Get("KV-Operation")
	return op == "DEL" || op == "PURGE" || e.Header.Get("Nats-Marker-Reason") != ""
}

// removal returns the message that removes an entry.
func removal(subject string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{"KV-Operation": {"DEL"}}}
}

// findLocked returns the device, or nil.
func (r *Roster) findLocked(k subjects.Key) *device { return r.users[k.User()].find(k) }

// deviceLocked returns the device, and makes it if there is none.
func (r *Roster) deviceLocked(k subjects.Key) *device {
	if d := r.findLocked(k); d != nil {
		return d
	}
	k = subjects.Key(strings.Clone(string(k))) // not all of the message
	d := &device{key: k}
	if a, err := k.Address(); err == nil {
		d.id = a.Device
	}
	r.users[k.User()] = r.users[k.User()].with(d)
	return d
}

// dropLocked forgets a device of which nothing is left. The revision of a removed
// entry is kept: it is needed to write the entry again.
func (r *Roster) dropLocked(d *device) {
	if d.record() != nil || d.sess != nil || d.rev != 0 || d.recRev != 0 {
		return
	}
	user := d.key.User()
	rest := r.users[user].without(d)
	if rest.len() == 0 {
		delete(r.users, user)
		return
	}
	r.users[user] = rest
}
