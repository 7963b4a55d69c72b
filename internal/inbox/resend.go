package inbox

import (
	"time"

	"github.com/nats-io/nats.go"
)

// watch reconnects when the connection is lost, sends again what waits for an
// answer, and fails what has waited too long.
func (p *Publisher) watch() {
	tick := time.NewTicker(resendAfter / 4)
	defer tick.Stop()
	var again <-chan time.Time
	wait := redialFirst
	for {
		select {
		case <-p.quit:
			return
		case now := <-tick.C:
			p.expire(now.Add(-publishTimeout))
			p.resend(now)
			continue
		case gone := <-p.lost:
			if !p.is(gone) {
				continue // one that was never used, or is replaced already
			}
			wait = redialFirst
		case <-again:
		}
		again = nil
		if err := p.reopen(); err != nil {
			p.log.Warn("no connection for publishing, trying again", "err", err)
			again = time.After(wait)
			wait = min(2*wait, redialMax)
		}
	}
}

// How long to wait between two attempts to connect.
const (
	redialFirst = 20 * time.Millisecond
	redialMax   = time.Second
)

// is reports whether nc is the connection in use.
func (p *Publisher) is(nc *nats.Conn) bool {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	return p.nc == nc
}

// reopen connects and sends everything unacknowledged again, in order, before
// anything new.
func (p *Publisher) reopen() error {
	nc, err := p.open()
	if err != nil {
		return err
	}
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	p.nc = nc
	p.resendAll()
	return nil
}

// resend sends messages again that have waited too long for their answers, in
// order.
func (p *Publisher) resend(now time.Time) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if !p.nc.IsConnected() {
		return // everything is sent again on the next connection
	}
	p.mu.Lock()
	var late []pendingPublish
	for i := range p.pending {
		f := &p.pending[i]
		if f.done == nil {
			continue
		}
		if now.Sub(f.at) < resendAfter {
			break // the rest is newer still
		}
		// A batch is not sent again on this connection: while it is being stored,
		// the store does not know its ids yet.
		if f.batch == nil && now.Sub(f.at) >= resendAfter<<f.again {
			f.again++
			f.twice = true
			late = append(late, *f)
		}
	}
	p.mu.Unlock()
	if len(late) > 0 {
		p.log.Info("messages are not acknowledged, sending them again", "messages", len(late))
		p.write(late)
	}
}

// resendAll sends everything unacknowledged again, on a new connection. It is
// called with sendMu held.
func (p *Publisher) resendAll() {
	p.mu.Lock()
	again := make([]pendingPublish, 0, len(p.pending))
	for i := range p.pending {
		if f := &p.pending[i]; f.done != nil {
			f.twice = true
			again = append(again, *f)
		}
	}
	p.mu.Unlock()
	p.write(again)
}

// write writes publishes to the connection. It is called with sendMu held.
func (p *Publisher) write(pending []pendingPublish) {
	for i := range pending {
		if err := pending[i].write(p.nc); err != nil {
			break // the connection is lost, and p.lost will say so
		}
	}
}

func (p *Publisher) expire(before time.Time) {
	for {
		p.mu.Lock()
		n, old := p.first, false
		if len(p.pending) > 0 {
			// The first is never an acknowledged one.
			old = p.pending[0].at.Before(before)
		}
		p.mu.Unlock()
		if !old {
			return
		}
		if f := p.take(n); f.done != nil {
			f.done(Receipt{}, ErrPublishTimeout)
		}
	}
}
