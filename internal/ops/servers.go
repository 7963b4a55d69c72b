package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ServerStats is a NATS server, as it tells the system account.
type ServerStats struct {
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Cluster     string    `json:"cluster,omitempty"`
	Started     time.Time `json:"started"`
	Memory      int64     `json:"memory"` // bytes
	CPU         float64   `json:"cpu"`    // percent of one core
	Cores       int       `json:"cores"`
	Connections int       `json:"connections"`
	// SlowConsumers counts connections that were cut because they did not read.
	SlowConsumers int64 `json:"slowConsumers"`
	// StoreUsed and StoreLimit are bytes; 0: the server stores nothing.
	StoreUsed  uint64 `json:"storeUsed"`
	StoreLimit int64  `json:"storeLimit"`
	// Skew is how far its clock is before ours, within half a round trip.
	Skew time.Duration `json:"skewNanos"`
}

// statsz is the part that matters of what a server answers.
type statsz struct {
	Server struct {
		Name    string    `json:"name"`
		Version string    `json:"ver"`
		Cluster string    `json:"cluster"`
		Time    time.Time `json:"time"`
	} `json:"server"`
	Stats struct {
		Start         time.Time `json:"start"`
		Memory        int64     `json:"mem"`
		CPU           float64   `json:"cpu"`
		Cores         int       `json:"cores"`
		Connections   int       `json:"connections"`
		SlowConsumers int64     `json:"slow_consumers"`
		JetStream     *struct {
			Config struct {
				MaxStore int64 `json:"max_storage"`
			} `json:"config"`
			Stats struct {
				Store uint64 `json:"storage"`
			} `json:"stats"`
		} `json:"jetstream"`
	} `json:"statsz"`
}

// Servers asks all servers how they are; nil when there is no credential of
// the system account.
func (t *Tenant) Servers(ctx context.Context) ([]ServerStats, error) {
	if t.system == nil {
		return nil, nil
	}
	nc, err := t.system()
	if err != nil {
		return nil, fmt.Errorf("ops: system account: %w", err)
	}
	defer nc.Close()
	return AskServers(ctx, nc)
}

// AskServers asks all servers how they are, on a connection of the system account.
func AskServers(ctx context.Context, nc *nats.Conn) ([]ServerStats, error) {
	var list []ServerStats
	sent := time.Now()
	err := gather(ctx, nc, "$SYS.REQ.SERVER.PING.STATSZ", nil, func(data []byte) error {
		var z statsz
		if err := json.Unmarshal(data, &z); err != nil {
			return fmt.Errorf("ops: a server's answer: %w", err)
		}
		// The clock was read somewhere between question and answer.
		middle := sent.Add(time.Since(sent) / 2)
		s := ServerStats{
			Name: z.Server.Name, Version: z.Server.Version, Cluster: z.Server.Cluster, Started: z.Stats.Start, Memory: z.Stats.Memory,
			CPU: z.Stats.CPU, Cores: z.Stats.Cores, Connections: z.Stats.Connections, SlowConsumers: z.Stats.SlowConsumers,
			Skew: z.Server.Time.Sub(middle),
		}
		if js := z.Stats.JetStream; js != nil {
			s.StoreUsed, s.StoreLimit = js.Stats.Store, js.Config.MaxStore
		}
		list = append(list, s)
		return nil
	})
	slices.SortFunc(list, func(a, b ServerStats) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// How long to wait for the first answer to a question to all, and for another
// one after each.
const (
	gatherFirst = time.Second
	gatherMore  = 150 * time.Millisecond
)

// gather asks whoever listens, and hands each answer to got.
func gather(ctx context.Context, nc *nats.Conn, subject string, body []byte, got func(data []byte) error) error {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("ops: ask %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, sub.Subject, body); err != nil {
		return fmt.Errorf("ops: ask %s: %w", subject, err)
	}
	for wait := gatherFirst; ; wait = gatherMore {
		next, cancel := context.WithTimeout(ctx, wait)
		m, err := sub.NextMsgWithContext(next)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return nil
		case err != nil:
			return fmt.Errorf("ops: ask %s: %w", subject, err)
		}
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
			return nil // nobody listens
		}
		if err := got(m.Data); err != nil {
			return err
		}
	}
}
