package pool

import "sync"

// Places bounds what requesters hold at once, such as bytes or open requests, so
// that none of them takes what others need. Make one with [NewPlaces].
type Places struct {
	total, each int64

	mu   sync.Mutex
	sum  int64
	held map[string]int64
}

// NewPlaces makes total places, of which one requester may hold each. A total of 0
// is no bound.
func NewPlaces(total, each int64) *Places {
	return &Places{total: total, each: each, held: make(map[string]int64)}
}

// Take takes n places, which release gives back; ok is false where the requester
// may not have them. A requester that holds nothing always gets what it asks for:
// however much others hold, it is served.
func (p *Places) Take(requester string, n int64) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.held[requester]
	if now > 0 && (now+n > p.each || p.total > 0 && p.sum+n > p.total) {
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
