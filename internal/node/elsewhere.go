package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// shardSet names shards; the zero value is all of them.
type shardSet string

// numbers returns those of the shards, each below most.
func (s shardSet) numbers(most int) ([]int, error) {
	if s == "" {
		s = shardSet("0-" + strconv.Itoa(most-1))
	}
	var all []int
	for part := range strings.SplitSeq(string(s), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		low, err := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		if err != nil || err2 != nil || low < 0 || low > high || high >= most {
			return nil, fmt.Errorf("want numbers and ranges from 0 to %d, such as 0-%[1]d or 0,%[1]d", most-1)
		}
		for n := low; n <= high; n++ {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	return all, nil
}

// CheckShards returns why a text names no shards, or nil. Empty, it names all.
func CheckShards(text string) error {
	_, err := shardSet(text).numbers(shard.Max)
	return err
}

// in returns the numbers of the shards, of so many.
func (s shardSet) in(count int) ([]int, error) {
	all, err := s.numbers(count)
	if err != nil && count == 1 {
		err = errors.New("the tenant has one shard: leave --shards out")
	}
	if err != nil {
		return nil, fmt.Errorf("node: --shards %q: %w", string(s), err)
	}
	return all, nil
}

// within returns the numbers of those shards that a tenant with so many has. If it has
// none of them, it returns all: otherwise no edge might serve a tenant with few.
func (s shardSet) within(count int) ([]int, error) {
	all, err := s.numbers(shard.Max)
	if err != nil {
		return nil, fmt.Errorf("node: --shards %q: %w", string(s), err)
	}
	if all = slices.DeleteFunc(all, func(n int) bool { return n >= count }); len(all) == 0 {
		return shardSet("").in(count)
	}
	return all, nil
}

// redirects remembers which devices were told to connect elsewhere, by any of a
// tenant's edges.
type redirects struct {
	nc  *nats.Conn
	sub *nats.Subscription

	mu   sync.Mutex
	told map[subjects.Key]time.Time
}

const (
	// redirectFor is for how long a device that comes back is served where it is.
	redirectFor = time.Minute
	// maxRedirects bounds what is remembered. A device that is forgotten is told
	// once more.
	maxRedirects = 1 << 18
)

func followRedirects(nc *nats.Conn) (*redirects, error) {
	r := &redirects{nc: nc, told: make(map[subjects.Key]time.Time)}
	var err error
	r.sub, err = nc.Subscribe(layout.Redirected, func(m *nats.Msg) { r.add(subjects.Key(m.Data), time.Now()) })
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return r, nil
}

func (r *redirects) stop() { _ = r.sub.Unsubscribe() }

func (r *redirects) add(k subjects.Key, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) >= maxRedirects {
		for k, at := range r.told {
			if now.Sub(at) > redirectFor {
				delete(r.told, k)
			}
		}
	}
	if len(r.told) >= maxRedirects {
		clear(r.told)
	}
	r.told[k] = now
}

// before reports whether a device was told within the last minute, and forgets it.
func (r *redirects) before(k subjects.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.told[k]
	delete(r.told, k)
	return ok && time.Since(at) < redirectFor
}

// tell has all edges remember that a device was told.
func (r *redirects) tell(k subjects.Key) error {
	r.add(k, time.Now())
	return r.nc.Publish(layout.Redirected, []byte(k))
}

// elsewhere returns the edges that serve a device's shard. If there are none, or
// the device was told before, it takes the shard up.
func (p *edgePart) elsewhere(ctx context.Context, account string, k subjects.Key) ([]string, error) {
	p.mu.RLock()
	t := p.tenants[account]
	p.mu.RUnlock()
	if t == nil {
		return nil, errors.New("node: the tenant is not served any more")
	}
	n := shard.Of(k.User(), t.count)
	if !t.told.before(k) {
		urls, err := t.edgesOf(ctx, n)
		if err != nil {
			return nil, err
		}
		if len(urls) > 0 {
			return urls, t.told.tell(k)
		}
	}
	err := t.takeUp(ctx, n)
	if err != nil {
		t.told.add(k, time.Now()) // it need not ask elsewhere again
	}
	return nil, err
}

// takeUp returns when a shard is served, which it may be for long already. It goes on
// when ctx ends: a large shard takes longer than one registration may, and the next one
// waits for what is left.
func (t *edgeTenant) takeUp(ctx context.Context, n int) error {
	t.mu.Lock()
	one := t.begun[n]
	switch {
	case t.stopped:
		t.mu.Unlock()
		return errors.New("node: the edge stops")
	case t.shards[n] != nil:
		t.mu.Unlock()
		return nil // meanwhile
	case one == nil:
		one = &taking{done: make(chan struct{})}
		t.begun[n] = one
		t.taking.Go(func() { t.finish(n, one) })
	}
	t.mu.Unlock()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return fmt.Errorf("node: shard %d is not taken up yet: %w", n, ctx.Err())
	}
}

// finish takes a shard up. One at a time is.
func (t *edgeTenant) finish(n int, one *taking) {
	defer close(one.done)
	t.inTurn.Lock()
	defer t.inTurn.Unlock()
	ctx, cancel := context.WithTimeout(t.ctx, startTimeout)
	defer cancel()
	log := t.edge.opts.logger.With("tenant", t.label(), "shard", n)
	log.Info("shard taken up")
	if one.err = t.serveShard(ctx, &edgeShard{t: t, shard: shard.At(n, t.count), taken: true}); one.err != nil {
		log.Warn("shard not taken up", "err", one.err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.begun, n)
}

// edgesOf returns where edges that serve a shard say that devices connect. Those that
// have only taken it up are named if there are no others, so that they can give it back.
func (t *edgeTenant) edgesOf(ctx context.Context, n int) ([]string, error) {
	c := direct.New(t.first.fetch).In(shard.At(n, t.count))
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer c.Stop()
	leases, _, err := c.Get(ctx, "KV_"+layout.BucketEdges, &direct.Request{MultiLast: []string{layout.AllEdges()}})
	if err != nil {
		return nil, fmt.Errorf("node: edges of shard %d: %w", n, err)
	}
	var own, takenUp []string
	for _, lease := range leases {
		var e roster.Edge
		switch {
		case json.Unmarshal(lease.Data, &e) != nil || !t.takesDevices(&e):
		case e.TakenUp:
			takenUp = append(takenUp, e.URL)
		default:
			own = append(own, e.URL)
		}
	}
	if len(own) == 0 {
		own = takenUp
	}
	return few(own), nil
}

// takesDevices reports whether devices can be sent to another edge.
func (t *edgeTenant) takesDevices(e *roster.Edge) bool {
	return e.URL != "" && CheckAdvertised(e.URL) == nil && e.Unready == "" && !e.Draining && e.Name != t.edge.opts.edge.Name
}

// maxURLs bounds the bytes of all URLs that a device is told: a frame of
// [wire.MinFrame] bytes takes them.
const maxURLs = 600

// few returns some of the URLs, at random.
func few(urls []string) []string {
	rand.Shuffle(len(urls), func(i, j int) { urls[i], urls[j] = urls[j], urls[i] }) //nolint:gosec // any of them will do
	left := maxURLs
	return slices.DeleteFunc(urls, func(url string) bool {
		left -= len(url) + len(`"",`)
		return left < 0
	})
}

// maxAdvertised bounds the bytes of one URL.
const maxAdvertised = 255

// CheckAdvertised returns why no device can be sent to a URL, or nil. Empty, it is
// none.
func CheckAdvertised(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || strings.ContainsAny(u.Host, `<>"`):
	case u.User != nil || strings.Contains(s, "#") || len(s) > maxAdvertised:
	case u.Port() != "" && !isPort(u.Port()):
	default:
		return nil
	}
	return fmt.Errorf("want ws://HOST or wss://HOST, perhaps with a port and a path, no user and no #, of %d bytes at most", maxAdvertised)
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}
