package inbox

import (
	"time"

	"github.com/nats-io/nats.go"
)

// watch connects again and fails what waited too long.
func (p *Publisher) watch() {
	tick := time.NewTicker(publishTimeout / 20)
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

// How long to wait between two tries to connect.
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

// reopen connects and sends all that is not acknowledged, in order, before
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

// resend sends again what waits too long for its answer, in order.
func (p *Publisher) resend(now time.Time) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if !p.nc.IsConnected() {
		return // all is sent again on the next
	}
	p.mu.Lock()
	var late []pendingPublish
	for i := range p.pending {
		f := &p.pending[i]
		if f.done == nil {
			continue
		}
		if now.Sub(f.at) < resendAfter {
			break // and so are those behind it
		}
		// A batch that is still being stored is not known by its ids yet.
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

// resendAll is called with sendMu held, on a new connection.
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

// write is called with sendMu held.
func (p *Publisher) write(pending []pendingPublish) {
	for i := range pending {
		if err := pending[i].write(p.nc); err != nil {
			break // the connection is lost, and lost says so
		}
	}
}

func (p *Publisher) expire(before time.Time) {
	for {
		p.mu.Lock()
		n, old := p.first, false
		if len(p.pending) > 0 {
			// The first pendingPublish is never a landed one.
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
