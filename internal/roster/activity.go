package roster

import (
	"maps"
	"slices"
	"time"
)

// Other processes must know which of a user's online devices was active last,
// because a message for any of them goes to that one. So an edge stores when its
// devices were active, but only where others would otherwise take the wrong
// device for the most recent. It stores them one after another: all at one moment
// would hold up messages.

const (
	// reportEvery is how often the activity of each device is checked.
	reportEvery = 10 * time.Second
	// reportParts is how many parts a round of checks is divided into.
	reportParts = 400
)

// reportLoop checks the devices of this edge, a few at a time.
func (r *Roster) reportLoop() {
	tick := time.NewTicker(reportEvery / reportParts)
	defer tick.Stop()
	var round []*slot // what is left of this round
	size := 0
	for part := 0; ; part = (part + 1) % reportParts {
		select {
		case <-r.quit:
			return
		case <-tick.C:
		}
		if part == 0 {
			round = r.allSlots()
			size = (len(round) + reportParts - 1) / reportParts
		}
		some := min(size, len(round))
		for _, sl := range round[:some] {
			r.reportActivity(sl)
		}
		round = round[some:]
	}
}

func (r *Roster) allSlots() []*slot {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.slots))
}

// reportActivity stores when a device was last active, if others would misjudge
// it.
func (r *Roster) reportActivity(sl *slot) {
	if r.stopped.Load() || !r.misjudged(sl) {
		return
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if cur := sl.current.Load(); cur != nil && sl.flying == nil && sl.opening == nil && sl.update == nil {
		sl.update = &update{s: cur, write: r.writes.Add(1)}
		r.flyLocked(sl)
	}
}

// misjudged reports whether, by what is stored, another device of the user seems
// to have been active later than this one, although this one was.
func (r *Roster) misjudged(sl *slot) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	cur, devices := sl.current.Load(), r.users[sl.key.User()]
	if cur == nil || devices.len() < 2 {
		return false
	}
	own := devices.find(sl.key)
	if own == nil || own.sess == nil {
		return false
	}
	active := cur.active.Load()
	for d := range devices.all() {
		if d == own || !d.sess.online() || d.sess.LastSeen < own.sess.LastSeen {
			continue
		}
		if active > r.activeLocked(d) {
			return true
		}
	}
	return false
}

// activeLocked returns when a device was last active, as far as this process
// knows.
func (r *Roster) activeLocked(d *device) int64 {
	if sl := r.slots[d.key]; sl != nil {
		if cur := sl.current.Load(); cur != nil {
			return cur.active.Load()
		}
	}
	return int64(d.sess.LastSeen)
}
