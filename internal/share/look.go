package share

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rccs-io/rccs/internal/reader"
	"github.com/rccs-io/rccs/subjects"
)

// lookLocked begins a look at what is stored of the user of key, unless one was
// made a moment ago or too many are under way. It reports whether one is under
// way now, or will be when there is a place for it.
func (s *Shares) lookLocked(t *table, key subjects.Key) bool {
	token := key.User()
	if infos[t.kind].filter == nil {
		token = "" // all are looked at together
	}
	l := t.looked[token]
	if l == nil {
		if len(t.looked) >= maxEntries || t.looked == nil {
			t.looked = make(map[string]*look)
		}
		l = new(look)
		t.looked[string([]byte(token))] = l
	}
	switch {
	case t.stopped:
		return false
	case l.running:
		return true
	case time.Since(l.at) < max(lookEvery, lookTimes*l.took):
		return false
	}
	select {
	case s.looks <- struct{}{}:
	default:
		return true
	}
	l.running = true
	token = string([]byte(token))
	before := t.addedLocked(token)
	s.wg.Go(func() {
		defer func() { <-s.looks }()
		began := time.Now()
		found, err := s.look(t, token)
		t.mu.Lock()
		defer t.mu.Unlock()
		l.running, l.at, l.took = false, time.Now(), time.Since(began)
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Warn("what is stored of a share was not counted", "store", t.kind.String(), "err", err)
			}
			return
		}
		t.foundLocked(token, found, before)
	})
	return true
}

// addedLocked is what is added so far to the holdings of a user, or of all.
func (t *table) addedLocked(token string) map[*holding]amount {
	all := make(map[*holding]amount)
	for name, u := range t.users {
		if token != "" && name != token {
			continue
		}
		all[&u.holding] = u.added
		for _, d := range u.devices {
			all[d] = d.added
		}
	}
	return all
}

// foundLocked replaces what was known by what a look has found. before is what
// was added until it began.
func (t *table) foundLocked(token string, found map[string]*user, before map[*holding]amount) {
	renew := func(h, f *holding) {
		h.base = amount{}
		if f != nil {
			h.base = f.base
		}
		h.added = h.added.minus(before[h])
	}
	for name, u := range t.users {
		if token != "" && name != token {
			continue
		}
		f := found[name]
		if f == nil {
			f = &user{}
		}
		renew(&u.holding, &f.holding)
		for k, d := range u.devices {
			renew(d, f.devices[k])
		}
		for k, d := range f.devices {
			if u.devices[k] == nil {
				u.devices[k] = d
				t.entries++
			}
		}
		u.known, u.oldest = true, f.oldest
	}
	for name, f := range found {
		if t.users[name] == nil {
			f.known = true
			t.users[name] = f
			t.entries += 1 + len(f.devices)
		}
	}
}

// look reads what is stored of a user, or of all, and makes room where a share
// is near its bound.
func (s *Shares) look(t *table, token string) (map[string]*user, error) {
	info := &infos[t.kind]
	t.mu.Lock()
	bounds := t.limits
	t.mu.Unlock()
	found := make(map[string]*user)
	var room *room
	if info.trims {
		room = newRoom(bounds)
	}
	opts := reader.Options{Conn: s.opts.Conn, Stream: info.stream, Shard: s.opts.Shard, FromStart: true, HeadersOnly: true, Logger: s.log}
	if token != "" {
		name, err := subjects.Unescape(token)
		if err != nil {
			return nil, fmt.Errorf("share: %w", err)
		}
		opts.Filter = []string{info.filter(subjects.UserID(name))}
	}
	opts.Handle = func(e reader.Entry) {
		key, ok := info.whose(s.opts.Proof, &e)
		size := amount{1, sizeOf(&e)}
		if ok {
			count(found, key, size, e.Time)
		}
		if room != nil {
			room.add(e.Subject, key, ok, e.Seq, size)
		}
	}
	if err := s.read(opts); err != nil {
		return nil, err
	}
	if room == nil {
		return found, nil
	}
	return found, s.trim(t.kind, found, room, bounds)
}

// read hands out what is stored now.
func (s *Shares) read(opts reader.Options) error {
	r, err := reader.New(opts)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	if err := r.Start(s.ctx); err != nil {
		return fmt.Errorf("share: read %s: %w", opts.Stream, err)
	}
	return r.Stop(context.WithoutCancel(s.ctx)) // after it nothing is handed out any more
}

// count adds what is stored to what was found.
func count(found map[string]*user, key subjects.Key, size amount, stored int64) {
	token := key.User()
	u := found[token]
	if u == nil {
		u = &user{devices: make(map[subjects.Key]*holding), oldest: time.Unix(0, stored)}
		found[token] = u
	}
	u.base = u.base.plus(size)
	if token == string(key) {
		return
	}
	d := u.devices[key]
	if d == nil {
		d = new(holding)
		u.devices[key] = d
	}
	d.base = d.base.plus(size)
}

// msgSize is how JetStream says how much data it left out.
const msgSize = "Nats-Msg-Size"

// sizeOf is what an entry takes in the store, without its data read.
func sizeOf(e *reader.Entry) int64 {
	const record = 30 // around each message in a block
	size := int64(record + len(e.Subject))
	for name, values := range e.Header {
		if name == msgSize {
			n, _ := strconv.ParseInt(values[len(values)-1], 10, 64) // JetStream's own stands last
			size += max(n, 0)
			continue
		}
		for _, v := range values {
			size += int64(len(name) + len(v) + len(": \r\n"))
		}
	}
	return size
}
