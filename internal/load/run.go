package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// run is a scenario under way.
type run struct {
	// Static after begin.
	scenario string
	opts     Options
	id       uint64    // tells its messages from those of other runs
	origin   time.Time // of its nanoseconds
	ledger   *ledger
	latency  *meter
	ctx      context.Context // ends when the run fails, with the cause
	fail     context.CancelCauseFunc
	// measure, if set, is called for each message that is new, in place of
	// counting its latency.
	measure func(f *flow, at int64, took time.Duration)
	// mayLose, if set, says of whom the connection may be lost: the scenario has
	// such a device connect again.
	mayLose func(Name) bool
	// waits is set while messages of this run wait for devices.
	waits atomic.Bool

	began        time.Time
	from         atomic.Int64 // latency counts for what was due from here on
	last         atomic.Int64 // when the last message arrived
	foreign      atomic.Uint64
	lostCount    atomic.Uint64
	refused      atomic.Uint64 // attempts to connect that the server turned away
	writeBuffers sync.Pool
	devices      sync.WaitGroup // their read loops

	mu   sync.Mutex
	live map[*device]struct{} // connected
	made map[Name]Account     // registered, and not forgotten

	phase atomic.Pointer[phase]
	shown chan struct{} // closed to end what tells of progress
	tells sync.WaitGroup
}

// phase is a part of a scenario. how returns how far it is.
type phase struct {
	name string
	how  func() (done, all int)
}

func begin(ctx context.Context, scenario string, opts Options) (*run, error) {
	if err := opts.complete(scenario); err != nil {
		return nil, err
	}
	now := time.Now()
	r := &run{
		scenario: scenario, opts: opts, id: uint64(now.UnixMicro()), origin: now, began: now,
		ledger: newLedger(), latency: newMeter(), live: make(map[*device]struct{}), made: make(map[Name]Account), shown: make(chan struct{}),
	}
	r.ctx, r.fail = context.WithCancelCause(ctx)
	r.phase.Store(&phase{"starting", func() (int, int) { return 0, 0 }})
	if opts.Progress != nil {
		r.tells.Go(r.tell)
	}
	return r, nil
}

// now is the time in nanoseconds of the run.
func (r *run) now() int64 { return int64(time.Since(r.origin)) }

func (r *run) readBuffer() int {
	if r.opts.Devices > 2000 {
		return idleBuffer
	}
	return readBuffer
}

// mayWait reports whether messages may wait for a device that connects.
func (r *run) mayWait(Name) bool { return r.waits.Load() || r.opts.Target.Forget }

// step begins a phase.
func (r *run) step(name string, how func() (done, all int)) { r.phase.Store(&phase{name, how}) }

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

func (r *run) tell() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	before, at := uint64(0), time.Now()
	for {
		select {
		case <-tick.C:
		case <-r.shown:
			return
		}
		now, n, p := time.Now(), r.ledger.arrived.Load(), r.phase.Load()
		done, all := p.how()
		r.opts.Progress(Progress{
			Phase: p.name, Done: done, All: all, P99: r.latency.p99(),
			Rate: float64(n-before) / now.Sub(at).Seconds(),
		})
		before, at = n, now
	}
}

// lost is called by a device whose connection has ended and should not have.
func (r *run) lost(d *device, err error) {
	r.mu.Lock()
	delete(r.live, d)
	r.mu.Unlock()
	r.lostCount.Add(1)
	if r.mayLose != nil && r.mayLose(d.name) {
		return
	}
	r.fail(fmt.Errorf("%s: %w", d.name, err))
}

// arrived enters a message.
func (r *run) arrived(d *device, a arrival) error {
	if a.run != r.id {
		r.foreign.Add(1) // left over by a run that did not end
		return nil
	}
	f := d.topic.Load()
	if a.flow != topicFlow {
		f = r.ledger.find(a.flow)
	}
	if f == nil || f.to != d.name {
		return fmt.Errorf("message %d of flow %d came to a device that it was not sent to", a.n, a.flow)
	}
	now := r.now()
	if !f.arrive(a.n, a.again) {
		return nil
	}
	r.last.Store(now)
	if took := time.Duration(now - a.at); r.measure != nil {
		r.measure(f, a.at, took)
	} else if a.at >= r.from.Load() {
		r.latency.record(took, f.id)
	}
	if f.then != nil {
		return f.then(a)
	}
	return nil
}

// connect connects a device. Where the server asks it to come back later, it
// does, as long as is waited.
func (r *run) connect(a Account) (*device, error) {
	var d *device
	for start := time.Now(); ; {
		var err error
		if d, err = r.dial(r.ctx, a); err == nil {
			break
		}
		var busy *busyError
		if !errors.As(err, &busy) || time.Since(start)+busy.after > r.opts.Patience {
			return nil, err
		}
		r.refused.Add(1)
		if e := r.wait(busy.after); e != nil {
			return nil, e
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made[a.Name] = a
	select {
	case <-d.done: // and lost has been called, or waits for the lock
	default:
		r.live[d] = struct{}{}
	}
	return d, nil
}

// disconnect ends a device's connection.
func (r *run) disconnect(d *device) {
	r.mu.Lock()
	delete(r.live, d)
	r.mu.Unlock()
	d.leave()
}

// connectAll connects devices, some at a time.
func (r *run) connectAll(accounts []Account) ([]*device, error) {
	var n atomic.Int64
	r.step("connecting", func() (int, int) { return int(n.Load()), len(accounts) })
	all := make([]*device, len(accounts))
	err := r.each(len(accounts), func(i int) error {
		d, err := r.connect(accounts[i])
		all[i] = d
		n.Add(1)
		return err
	})
	return all, err
}

// each calls do for 0 to n-1, as many at a time as may connect at a time, and
// returns the first error, after which it calls no more.
func (r *run) each(n int, do func(i int) error) error { return each(r.ctx, r.opts.Connecting, n, do) }

func each(ctx context.Context, atATime, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(atATime, n) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// pair has a flow from the first of two devices to the second.
func (r *run) pair(from, to Name) *flow {
	return r.ledger.flow(from.String()+" to "+to.String()+", lane normal", to)
}

// cause is why the run ended, where it did: the errors that follow are its
// consequences.
func (r *run) cause(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	return err
}

// end closes all connections, and returns the result with what went wrong.
func (r *run) end(err error, metrics ...Metric) (*Result, error) {
	defer r.fail(nil)
	interrupted := err != nil && errors.Is(err, context.Canceled)
	if err == nil {
		err = r.ledger.close()
	}
	sent, arrived, again := r.ledger.sent.Load(), r.ledger.arrived.Load(), r.ledger.again.Load()
	r.release()
	close(r.shown)
	r.tells.Wait()
	result := &Result{
		Scenario: r.scenario, Begun: r.began, Seconds: time.Since(r.began).Seconds(), Target: r.opts.Target.URL,
		Settings: r.opts.settings(r.scenario), Metrics: metrics,
		Sent: sent, Arrived: arrived, Redelivered: again, Leftover: r.foreign.Load(), Refused: r.refused.Load(),
	}
	if interrupted {
		return nil, err
	}
	if err != nil {
		result.Failed = err.Error()
		return result, fmt.Errorf("load: %s: %w", r.scenario, err)
	}
	if r.latency.sum().TotalCount() > 0 {
		result.Histogram, err = r.latency.encoded()
	}
	return result, err
}

// releaseTimeout bounds how long devices are forgotten.
const releaseTimeout = time.Minute

// release forgets the devices, where they are the run's own, and ends their
// connections.
func (r *run) release() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), releaseTimeout)
	defer cancel()
	r.waits.Store(true) // for devices that are away, and will be forgotten
	if r.opts.Target.Forget {
		r.forgetAll(ctx)
	}
	r.mu.Lock()
	live := slices.Collect(maps.Keys(r.live))
	r.mu.Unlock()
	for _, d := range live {
		d.leaving.Store(true) // all, or one would be missed by the next
	}
	for _, d := range live {
		r.disconnect(d)
	}
	r.devices.Wait()
}

// forgetAll has all devices forgotten that this run has registered. Those that
// are away connect for it; what is left when that fails is a device that
// nobody uses.
func (r *run) forgetAll(ctx context.Context) {
	r.mu.Lock()
	by := make(map[Name]*device, len(r.live))
	for d := range r.live {
		by[d.name] = d
	}
	made := slices.Collect(maps.Values(r.made))
	r.mu.Unlock()
	var n atomic.Int64
	r.step("forgetting the devices", func() (int, int) { return int(n.Load()), len(made) })
	_ = each(ctx, forgetting, len(made), func(i int) error {
		defer n.Add(1)
		d := by[made[i].Name]
		if d == nil {
			var err error
			if d, err = r.dial(ctx, made[i]); err != nil {
				return err // the server is gone
			}
			defer d.leave()
		}
		_ = r.forget(ctx, d)
		return nil
	})
}

// forget has the server forget a device.
func (r *run) forget(ctx context.Context, d *device) error {
	r.mu.Lock()
	delete(r.made, d.name)
	r.mu.Unlock()
	return d.forget(ctx)
}

// forgetting is how many devices are forgotten at a time.
const forgetting = 32
