package load

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/gorilla/websocket"
)

// Fanout publishes to one topic with many subscribers, a window of messages at
// a time: one that has reached all is followed by another.
func Fanout(ctx context.Context, opts Options) (*Result, error) {
	r, err := begin(ctx, "fanout", opts)
	if err != nil {
		return nil, err
	}
	rate, err := r.fanoutLoad()
	rate.Name = "deliveries"
	all := []Metric{rate, {Name: "published", Value: rate.Value / float64(r.opts.Devices), Unit: "/s", Better: More}}
	return r.end(err, append(all, r.latency.metrics("latency")...)...)
}

// publisher is who publishes to the topic of a run.
type publisher struct {
	*device
	topic string
	flows []*flow // one a subscriber, with the same numbers
	// left is how many subscribers have not got a message, in its number's
	// place; a window's messages at most are under way.
	left []atomic.Int64
	stop atomic.Bool
}

func (r *run) fanoutLoad() (Metric, error) {
	p, err := r.subscribeAll()
	if err != nil {
		return Metric{}, err
	}
	for _, f := range p.flows {
		f.then = func(a arrival) error {
			if p.left[a.n%uint64(len(p.left))].Add(-1) > 0 || p.stop.Load() {
				return nil
			}
			return p.publish()
		}
	}
	r.from.Store(r.now() + int64(r.opts.Warmup))
	r.until("warming up", r.opts.Warmup)
	for range r.opts.Window {
		if err := p.publish(); err != nil {
			return Metric{}, r.cause(err)
		}
	}
	rate, err := r.rate(&p.stop)
	if err != nil {
		return rate, err
	}
	return rate, r.finish()
}

// subscribeAll connects who publishes and all who subscribe.
func (r *run) subscribeAll() (*publisher, error) {
	all, err := r.connectAll(r.opts.Target.Accounts[:r.opts.Devices+1])
	if err != nil {
		return nil, err
	}
	// Twice the window: the place of a message is free before it is taken again.
	p := &publisher{device: all[0], topic: "bench." + strconv.FormatUint(r.id, 36), left: make([]atomic.Int64, 2*r.opts.Window)}
	for _, d := range all[1:] {
		f := r.ledger.flow("topic "+p.topic+" to "+d.name.String(), d.name)
		d.topic.Store(f)
		p.flows = append(p.flows, f)
	}
	var n atomic.Int64
	r.step("subscribing", func() (int, int) { return int(n.Load()), len(p.flows) })
	return p, r.each(len(p.flows), func(i int) error {
		err := all[i+1].ask(r.ctx, "subscribe", "subscribe", map[string]any{"topic": p.topic})
		n.Add(1)
		return err
	})
}

// publish sends the next message.
func (p *publisher) publish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n uint64
	for _, f := range p.flows {
		n = f.next()
	}
	p.left[n%uint64(len(p.left))].Store(int64(len(p.flows)))
	p.out = appendPublish(p.out[:0], p.topic, arrival{run: p.run.id, flow: topicFlow, n: n, at: p.run.now()}, p.run.opts.Bytes)
	return p.ws.WriteMessage(websocket.TextMessage, p.out)
}

// topicFlow stands for the flow of a topic to whoever gets the message.
const topicFlow = 1<<53 - 1
