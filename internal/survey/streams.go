package survey

import (
	"context"
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

// streams asks all leaders at once. One that did not answer is nil.
func (t *tenant) streams(ctx context.Context, names []string) map[string]*jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	infos := make(map[string]*jetstream.StreamInfo, len(names))
	for _, name := range names {
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

// edges counts the leases. The bucket forgets one that is not renewed.
func (t *tenant) edges(ctx context.Context) (n int, err error) {
	leases, err := t.direct.Run(ctx, "KV_"+layout.BucketEdges, 1, edgesAtMost)
	if err != nil {
		return 0, fmt.Errorf("survey: %w", err)
	}
	for i := range leases {
		if op := leases[i].Header.Get("KV-Operation"); op == "" {
			n++
		}
	}
	return n, nil
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
