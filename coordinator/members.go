package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/wake"
)

const (
	// beatEvery is how often a coordinator tells the others that it is there.
	beatEvery = time.Second
	// missedMost is how many beats in a row may be missing before the others take
	// its shards.
	missedMost = 6
	// aloneEvery is how many beats are left out where nobody else is known.
	aloneEvery = 30
	// helloTimeout bounds how long a starting coordinator waits for an answer of the
	// others. If there are none, NATS says so at once.
	helloTimeout = time.Second
	// dropTimeout bounds how long the work on a shard may take to end. What is not done
	// by then is done by whoever works the shard next.
	dropTimeout = 2 * time.Second
)

// members are the coordinators of the tenant that are there, and divide the work
// on its shards. Each tells the others every second that it is there and which
// shards it works. From the same list each reckons the same division. One that
// stops says so. One that is silent for some seconds counts as gone, and so does
// one that cannot do its work.
//
// A new division leaves no shard without a worker: the old one goes on until the new
// one says that it has begun. So two may work a shard for a moment, or for longer when
// one was paused or is cut off from the others. That does no harm: what is done twice
// counts once.
type members struct {
	c    *Coordinator // which answers requests
	kick wake.Signal
	sub  *nats.Subscription
	ctx  context.Context
	quit context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	others map[string]*member
}

// member is another coordinator.
type member struct {
	beat
	missed int // beats of our own since it was heard. A pause of ours is no silence of others
}

// beat is what a coordinator tells the others. A reply subject asks for all beats
// that are known.
type beat struct {
	ID     string `json:"id"`
	Shards []int  `json:"shards"` // that it works
	Gone   bool   `json:"gone,omitempty"`
	Load   load   `json:"load"`
}

// load is what waits where a coordinator works.
type load struct {
	Fresh     int    `json:"fresh"`
	Users     int    `json:"users"`
	Read      uint64 `json:"read"`
	Deadlines int    `json:"deadlines"`
}

func (l load) plus(o load) load {
	return load{l.Fresh + o.Fresh, l.Users + o.Users, l.Read + o.Read, l.Deadlines + o.Deadlines}
}

func newMembers(c *Coordinator) *members {
	m := &members{c: c, kick: wake.New(), others: make(map[string]*member)}
	m.ctx, m.quit = context.WithCancel(context.Background())
	return m
}

// start returns when the shards are worked that are this coordinator's.
func (m *members) start(ctx context.Context) (err error) {
	if err := m.hello(ctx); err != nil {
		return err
	}
	if m.sub, err = m.c.core.Subscribe(layout.Members(), func(msg *nats.Msg) { m.c.contained("members", func() { m.onBeat(msg) }) }); err != nil {
		return fmt.Errorf("coordinator: subscribe: %w", err)
	}
	if err := m.divide(ctx); err != nil {
		return err
	}
	m.announce(false)
	m.wg.Go(m.beats)
	m.wg.Go(m.work)
	m.wg.Go(m.revocations)
	return nil
}

// stop hands the shards over: the others are told before the work ends.
func (m *members) stop() {
	m.quit()
	m.wg.Wait()
	if m.sub != nil {
		_ = m.sub.Unsubscribe()
		m.announce(true)
	}
}

// hello learns who is there.
func (m *members) hello(ctx context.Context) error {
	data, err := json.Marshal(m.own())
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	answer, err := m.c.core.RequestWithContext(ctx, layout.Members(), data)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return nil // nobody is there, or they will be heard
	case err != nil:
		return fmt.Errorf("coordinator: ask who is there: %w", err)
	}
	var all []beat
	if err := json.Unmarshal(answer.Data, &all); err != nil {
		m.c.log.Warn("unreadable list of coordinators", "err", err)
	}
	for _, b := range all {
		if b.ID != m.c.id {
			m.others[b.ID] = &member{beat: b}
		}
	}
	return nil
}

// onBeat handles the beat of another coordinator.
func (m *members) onBeat(msg *nats.Msg) {
	var b beat
	if err := json.Unmarshal(msg.Data, &b); err != nil || b.ID == "" {
		m.c.log.Warn("unreadable beat of a coordinator", "err", err)
		return
	}
	if b.ID == m.c.id {
		return
	}
	m.mu.Lock()
	known := m.others[b.ID]
	if b.Gone {
		delete(m.others, b.ID)
	} else {
		m.others[b.ID] = &member{beat: b}
	}
	all := []beat{}
	for _, o := range m.others {
		all = append(all, o.beat)
	}
	m.mu.Unlock()
	if msg.Reply != "" && (&request{Msg: msg}).mayReply() {
		if m.c.healthy() == nil {
			all = append(all, m.own())
		}
		if data, err := json.Marshal(all); err == nil {
			_ = m.c.core.Publish(msg.Reply, data)
		}
	} else if known == nil && !b.Gone {
		m.announce(false) // it may not know us
	}
	m.kick.Set()
}

// own is this coordinator's beat.
func (m *members) own() beat {
	b := beat{ID: m.c.id, Shards: []int{}}
	for n, one := range m.c.all() {
		if d := one.duty.Load(); d != nil {
			b.Shards = append(b.Shards, n)
			fresh, users := d.router.counts()
			b.Load = b.Load.plus(load{fresh, users, d.router.reader.Last(), d.deadlines.count()})
		}
	}
	return b
}

// announce sends the beat of this coordinator to the others, unless it cannot do its work.
func (m *members) announce(gone bool) {
	if !gone && m.c.healthy() != nil {
		return
	}
	b := m.own()
	b.Gone = gone
	data, err := json.Marshal(b)
	if err == nil {
		err = m.c.core.Publish(layout.Members(), data)
	}
	if err != nil {
		m.c.log.Debug("other coordinators not told", "err", err)
	}
}

// beats tells the others that this coordinator is there, and counts what it misses
// of them.
func (m *members) beats() {
	tick := time.NewTicker(m.c.beatEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		}
		if !m.c.core.IsConnected() {
			continue // nobody can be heard
		}
		m.mu.Lock()
		for id, o := range m.others {
			if o.missed++; o.missed > missedMost {
				m.c.log.Warn("a coordinator is gone", "id", id, "shards", o.Shards)
				delete(m.others, id)
			}
		}
		alone := len(m.others) == 0
		m.mu.Unlock()
		if !alone || n%aloneEvery == 0 {
			m.announce(false)
		}
		m.kick.Set()
	}
}

// work takes and drops shards.
func (m *members) work() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.kick:
		}
		if err := m.divide(m.ctx); err != nil && m.ctx.Err() == nil {
			m.c.log.Warn("a shard is not taken or not handed over, trying again", "err", err)
		}
	}
}

// divide takes the shards that are this coordinator's, and drops those that
// others work by now.
func (m *members) divide(ctx context.Context) error {
	all := m.c.all()
	var errs []error
	for n, one := range all {
		mine, theirs := m.of(n)
		switch held := one.duty.Load() != nil; {
		case mine && !held:
			if err := one.takeShard(ctx); err != nil {
				errs = append(errs, err)
				continue
			}
			m.c.log.Debug("shard taken", "shard", n)
		case theirs && held:
			ctx, cancel := context.WithTimeout(ctx, dropTimeout)
			errs = append(errs, one.dropShard(ctx))
			cancel()
			m.c.log.Debug("shard handed over", "shard", n)
		default:
			continue
		}
		m.announce(false)
	}
	return errors.Join(errs...)
}

// of reports whether a shard is this coordinator's, or another's who works it.
func (m *members) of(shard int) (mine, theirs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := []string{m.c.id}
	for id := range m.others {
		ids = append(ids, id)
	}
	owner := m.others[ownerOf(shard, ids)]
	return owner == nil, owner != nil && slices.Contains(owner.Shards, shard)
}

// ownerOf returns whose a shard is. The ids of one process are much alike, so they
// are hashed: otherwise one process would have the shards of all tenants.
func ownerOf(shard int, ids []string) string {
	slices.SortFunc(ids, func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return slices.Compare(x[:], y[:])
	})
	return ids[shard%len(ids)]
}

// load is what waits in all shards, whoever works them.
func (m *members) load() load {
	sum := m.own().Load
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		sum = sum.plus(o.Load)
	}
	return sum
}

// revocations has delayed messages looked at again when services may have been
// revoked.
func (m *members) revocations() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.c.opts.RevocationsChanged:
		}
		for _, one := range m.c.all() {
			if d := one.duty.Load(); d != nil {
				d.schedules.recheck.Set()
			}
		}
	}
}
