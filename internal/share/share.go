package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Bounds are how much may be stored. Zero is no bound.
type Bounds struct {
	// DevicePercent and UserPercent are how much of each stream of the tenant one
	// device, and the devices of one user together, may take.
	DevicePercent, UserPercent int
	// MinInboxBytes is what both may take of inboxes at least, if the tenant may: a
	// small store is not cut into parts too small for a few large messages. Each of
	// several shards has an equal part of it.
	MinInboxBytes int64
	// Inbox, Later, Up and Topic are how many messages of a device may be stored
	// of each kind; of a user it is ten times that. What the oldest make room
	// for counts too, so that of inboxes is well above what may be
	// unacknowledged. Later also bounds what waits for a suitable device, and
	// tasks.
	Inbox, Later, Up, Topic int
}

// userTimes is how many messages of a user there may be for one of a device.
const userTimes = 10

// Metrics count what was refused.
type Metrics struct{ refused *prometheus.CounterVec }

// NewMetrics registers the metrics; a process has one.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "rccs_share_refused_total", Help: "Messages refused because a share of the store is full, by what it is of and whose.",
	}, []string{"store", "whose"})}
	for k := range infos { // a series that is not there yet cannot be seen to rise
		m.refused.WithLabelValues(infos[k].name, ofDevice)
		m.refused.WithLabelValues(infos[k].name, ofUser)
		m.refused.WithLabelValues(infos[k].name, ofTenant)
	}
	m.refused.WithLabelValues(infos[Route].name, ofService)
	return m
}

// Options are what [Shares] need. Conn belongs to the tenant's account, and
// carries looks at what is stored.
type Options struct {
	Conn   *nats.Conn
	Bounds Bounds
	Proof  *proof.Key
	// Shard is the one whose users are bounded.
	Shard shard.Shard
	// Metrics; nil counts nowhere.
	Metrics *Metrics
	// ClearEvery is how often the whole of inboxes, and of messages to services, is
	// looked at, and cleared of what was acknowledged when it is three quarters
	// full; 0: never. One process of a tenant is enough, several do no harm.
	ClearEvery time.Duration
	// Logger; nil discards.
	Logger *slog.Logger
}

// Shares are those of one tenant. A nil one has no bounds.
type Shares struct {
	opts Options
	js   jetstream.JetStream
	log  *slog.Logger

	tables [kinds]table
	looks  chan struct{} // a token for each look under way

	ctx    context.Context //nolint:containedctx // of the looks
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// looksAtOnce bounds how many looks are under way.
const looksAtOnce = 2

// New makes the shares of a tenant, whose streams must exist.
func New(opts Options) (*Shares, error) {
	if opts.Conn == nil {
		return nil, errors.New("share: Conn is needed")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	js, err := jetstream.New(opts.Conn)
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	s := &Shares{opts: opts, js: opts.Shard.JetStream(js), log: opts.Logger, looks: make(chan struct{}, looksAtOnce)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	b := opts.Bounds
	for k, messages := range map[Kind]int{Inbox: b.Inbox, Later: b.Later, Up: b.Up, Topic: b.Topic, Route: b.Later, Task: b.Later} {
		t := &s.tables[k]
		t.kind, t.users = k, make(map[string]*user)
		t.limits.device.messages, t.limits.user.messages = int64(messages), int64(messages)*userTimes
	}
	if opts.ClearEvery > 0 {
		s.wg.Go(func() { s.watch(opts.ClearEvery) })
	}
	return s, nil
}

// Stop ends looks that are under way.
func (s *Shares) Stop() {
	if s == nil {
		return
	}
	s.cancel()
	for k := range s.tables { // nobody begins another one
		s.tables[k].mu.Lock()
		s.tables[k].stopped = true
		s.tables[k].mu.Unlock()
	}
	s.wg.Wait()
}

// amount is of what is stored.
type amount struct{ messages, bytes int64 }

func (a amount) plus(b amount) amount { return amount{a.messages + b.messages, a.bytes + b.bytes} }

func (a amount) minus(b amount) amount {
	return amount{max(a.messages-b.messages, 0), max(a.bytes-b.bytes, 0)}
}

// holding is what a device, or a user, has stored.
type holding struct {
	base  amount // as the store had it when it was looked at
	added amount // since
}

func (h *holding) total() amount { return h.base.plus(h.added) }

// user is what is known of a user's share.
type user struct {
	holding
	devices map[subjects.Key]*holding
	known   bool      // it was looked at
	oldest  time.Time // of what the user has stored, then
}

// limits are those of a kind. A part that is zero is no bound.
type limits struct{ device, user amount }

// look is when a look ended, and how long it took.
type look struct {
	at      time.Time
	took    time.Duration
	running bool
}

// table is what is counted of one kind.
type table struct {
	kind Kind

	mu      sync.Mutex
	stopped bool
	limits  limits
	whole   whole
	users   map[string]*user // by token
	entries int              // users and devices
	looked  map[string]*look // by user; of topics "" is all
}

const (
	// maxEntries bounds the users and devices that are counted. Past it counting
	// begins anew.
	maxEntries = 1 << 18
	// overhead is what a message costs beside its payload, before it was looked
	// at.
	overhead = 400
	// lookEvery is how often one share is looked at, at most; a look that took
	// long is made more seldom.
	lookEvery = 250 * time.Millisecond
	lookTimes = 10
	// lookSoon is when to come back while a look is under way.
	lookSoon = time.Second
	// retryFull is when to come back to what is full until somebody acknowledges.
	retryFull = 10 * time.Second
	// maxRetry is the longest that anybody is told to wait.
	maxRetry = time.Hour
)

// Admit counts a message of so many bytes that is to be stored for a device, or
// says which share is full. k is the device whose inbox it is for, or that
// sends it: the one that is bounded. For Route and Task its user is.
func (s *Shares) Admit(k Kind, key subjects.Key, size int) *wire.Error {
	if s == nil {
		return nil
	}
	t := &s.tables[k]
	more := amount{1, int64(size) + overhead}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.refreshLocked(t)
	u, d := t.ofLocked(key)
	if whose, what := t.overLocked(u, d, more); whose != "" {
		s.opts.Metrics.refused.WithLabelValues(infos[k].name, whose).Inc()
		looking := s.lookLocked(t, key)
		return t.refusalLocked(u, whose, what, looking && (!u.known || u.added.messages > 0))
	}
	u.added, t.whole.added = u.added.plus(more), t.whole.added.plus(more)
	if d != nil {
		d.added = d.added.plus(more)
	}
	if t.nearLocked(u, d) {
		s.lookLocked(t, key)
	}
	return nil
}

// ofLocked are a device's holding and its user's; no device's where users alone
// are told apart.
func (t *table) ofLocked(key subjects.Key) (*user, *holding) {
	token := key.User()
	u := t.users[token]
	if u == nil {
		if t.entries >= maxEntries {
			clear(t.users)
			t.entries = 0
		}
		u = &user{devices: make(map[subjects.Key]*holding)}
		t.users[string([]byte(token))] = u // the key may be a part of something longer
		t.entries++
	}
	if t.kind == Route || t.kind == Task {
		return u, nil
	}
	d := u.devices[key]
	if d == nil {
		d = new(holding)
		u.devices[subjects.Key([]byte(key))] = d
		t.entries++
	}
	return u, d
}

// The sides of a share.
const (
	ofDevice, ofUser, ofTenant, ofService = "device", "user", "tenant", "service"
	byMessages, byBytes                   = "messages", "bytes"
)

// over is which part of a limit an amount is above, after more was added. What
// is empty takes one message, however large.
func over(h *holding, more, limit amount) string {
	now := h.total()
	switch sum := now.plus(more); {
	case limit.messages > 0 && sum.messages > limit.messages:
		return byMessages
	case limit.bytes > 0 && sum.bytes > limit.bytes && now.messages > 0:
		return byBytes
	}
	return ""
}

// unseen is what of a limit may be added before it is known what is stored: an
// eighth, and some large messages.
func unseen(limit amount) amount {
	const part, messages, bytes = 8, 64, 1 << 20
	return amount{min(limit.messages, max(limit.messages/part, messages)), min(limit.bytes, max(limit.bytes/part, bytes))}
}

func (t *table) overLocked(u *user, d *holding, more amount) (whose, what string) {
	device, all := t.limits.device, t.limits.user
	if !u.known {
		device, all = unseen(device), unseen(all)
	}
	if d != nil {
		if what := over(d, more, device); what != "" {
			return ofDevice, what
		}
	}
	if what := over(&u.holding, more, all); what != "" {
		return ofUser, what
	}
	if limit := t.whole.limit; limit > 0 && t.whole.total().bytes+more.bytes > limit {
		return ofTenant, byBytes
	}
	return "", ""
}

// nearLocked reports whether a share may be three quarters full, and should be
// looked at.
func (t *table) nearLocked(u *user, d *holding) bool {
	near := func(h *holding, limit amount) bool {
		above := func(base, added, limit int64) bool {
			switch {
			case limit <= 0:
				return false
			case !u.known:
				return added > limit/16
			}
			return base+added > limit/4*3 && added > limit/16 || added > limit/8
		}
		return above(h.base.messages, h.added.messages, limit.messages) || above(h.base.bytes, h.added.bytes, limit.bytes)
	}
	return near(&u.holding, t.limits.user) || d != nil && near(d, t.limits.device)
}

// refusalLocked says which bound was met and when to come back. counting: what was
// stored since the last look is being looked at, after which there may be room.
func (t *table) refusalLocked(u *user, whose, what string, counting bool) *wire.Error {
	info := &infos[t.kind]
	limit := t.limits.device
	if whose == ofUser {
		limit = t.limits.user
	}
	of := map[string]string{ofDevice: "a device", ofUser: "the devices of a user", ofTenant: "a tenant"}[whose]
	most := strconv.FormatInt(limit.messages, 10) + " messages"
	switch {
	case whose == ofTenant:
		most = strconv.FormatInt(t.whole.limit, 10) + " bytes"
	case what == byBytes:
		most = strconv.FormatInt(limit.bytes, 10) + " bytes"
	}
	err := wire.NewError(wire.QueueFull, "the share of "+of+" of what is stored of "+info.what+" is full ("+most+"): nothing was stored for anybody")
	err.RetryAfter = retryFull
	switch {
	case whose == ofTenant:
	case counting:
		err.RetryAfter = lookSoon
	case (t.kind == Up || t.kind == Topic || t.kind == Task) && t.whole.maxAge > 0 && !u.oldest.IsZero():
		err.RetryAfter = min(max(time.Until(u.oldest.Add(t.whole.maxAge)), retryFull), maxRetry)
	}
	return err
}
