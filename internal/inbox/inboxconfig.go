package inbox

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

// inboxConfig is how the inbox stream is configured, as of at most [refreshEvery] ago.
type inboxConfig struct {
	js jetstream.JetStream

	mu    sync.Mutex
	last  jetstream.StreamConfig
	asked time.Time
}

func newInboxConfig(c *direct.Client) (*inboxConfig, error) {
	js, err := jetstream.New(c.Conn())
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &inboxConfig{js: c.Shard().JetStream(js)}, nil
}

func (c *inboxConfig) get(ctx context.Context) (jetstream.StreamConfig, error) {
	c.mu.Lock()
	last, fresh := c.last, !c.asked.IsZero() && time.Since(c.asked) < refreshEvery
	c.mu.Unlock()
	if fresh {
		return last, nil
	}
	info, err := leader.Info(ctx, c.js, layout.StreamInbox)
	if err != nil {
		return last, fmt.Errorf("inbox: how the stream is configured: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.asked = info.Config, time.Now()
	return c.last, nil
}

func (c *inboxConfig) replicas(ctx context.Context) (int64, error) {
	config, err := c.get(ctx)
	return int64(config.Replicas), err
}
