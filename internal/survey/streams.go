package survey

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
)

// streamTimeout bounds the wait for a stream's leader. One that does not answer
// within it is taken for missing.
const streamTimeout = 3 * time.Second

// ask asks the leaders of all streams at once. One that did not answer is nil.
func (t *tenant) ask(ctx context.Context) map[string]*jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	infos := make(map[string]*jetstream.StreamInfo, len(t.streams))
	for _, name := range t.streams {
		wg.Go(func() {
			var info *jetstream.StreamInfo
			if s, err := t.js.Stream(ctx, name); err == nil {
				info = s.CachedInfo()
			}
			if info != nil && !leader.Answered(info) {
				info = nil
			}
			mu.Lock()
			defer mu.Unlock()
			infos[name] = info
		})
	}
	wg.Wait()
	return infos
}

func measure(infos map[string]*jetstream.StreamInfo) map[string]streamFigures {
	all := make(map[string]streamFigures, len(infos))
	for name, info := range infos {
		if info == nil {
			all[name] = streamFigures{}
			continue
		}
		f := streamFigures{
			led: true, messages: info.State.Msgs, bytes: info.State.Bytes, limit: uint64(max(info.Config.MaxBytes, 0)),
		}
		if c := info.Cluster; c != nil && info.Config.Replicas > 1 {
			for _, r := range c.Replicas {
				if r.Offline || !r.Current {
					f.missing++
				}
				f.lag = max(f.lag, r.Lag)
			}
			f.missing += max(info.Config.Replicas-1-len(c.Replicas), 0)
		}
		all[name] = f
	}
	return all
}

// edgesAtMost bounds how many leases are read.
const edgesAtMost = 1000

// edges adds the edges that hold a lease, each by the lease, or by its name where it
// may have one in each shard. The bucket forgets one that is not renewed.
func (p *part) edges(ctx context.Context, names map[string]bool) error {
	leases, err := p.direct.Run(ctx, "KV_"+layout.BucketEdges, 1, edgesAtMost)
	if err != nil {
		return fmt.Errorf("survey: %w", err)
	}
	for i := range leases {
		if op := leases[i].Header.Get("KV-Operation"); op != "" {
			continue
		}
		if p.shard.Alone() {
			names[leases[i].Subject] = true
			continue
		}
		var lease struct{ ID, Name string }
		_ = json.Unmarshal(leases[i].Data, &lease) // whatever it says, it is one
		names[cmp.Or(lease.Name, lease.ID, leases[i].Subject)] = true
	}
	return nil
}

// stored is the first message of a subject from a sequence on, or nil.
func stored(ctx context.Context, c *direct.Client, subject string, from uint64) (*direct.Stored, error) {
	msgs, _, err := c.Next(ctx, layout.StreamInbox, subject, from, 1, 0)
	if err != nil {
		return nil, fmt.Errorf("survey: %w", err)
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	return &msgs[0], nil
}
