package pool

import "sync"

// Places bounds what requesters hold at once, such as bytes or open requests, so
// that none of them takes what others need. Make one with [NewPlaces].
//
// As much again as the total is kept for requesters that hold nothing: they are
// served however much others hold, unless so many of them come together that this
// is taken too.
type Places struct {
	total, each int64

	mu   sync.Mutex
	sum  int64
	held map[string]int64
}

// NewPlaces makes total places, of which one requester may hold each.
func NewPlaces(total, each int64) *Places {
	return &Places{total: total, each: each, held: make(map[string]int64)}
}

// TryAcquire takes n places, which release gives back; ok is false where the requester
// may not have them.
func (p *Places) TryAcquire(requester string, n int64) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, room := p.held[requester], p.total
	if now == 0 {
		room *= 2
	}
	if now > 0 && now+n > p.each || p.sum > 0 && p.sum+n > room {
		return nil, false
	}
	p.held[requester] += n
	p.sum += n
	return sync.OnceFunc(func() { p.release(requester, n) }), true
}

// Held is how many are taken.
func (p *Places) Held() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

func (p *Places) release(requester string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum -= n
	if p.held[requester] -= n; p.held[requester] <= 0 {
		delete(p.held, requester)
	}
}
