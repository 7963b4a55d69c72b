package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Status is a tenant at a glance.
type Status struct {
	Server Server `json:"server"`
	// Servers are all servers of the installation; only the system account is
	// told.
	Servers []ServerStats  `json:"servers,omitempty"`
	Store   Store          `json:"store"`
	Streams []StreamStatus `json:"streams"`
	Edges   []Edge         `json:"edges"`
	// Coordinators are those that answered.
	Coordinators []Coordinator `json:"coordinators"`
	Devices      int           `json:"devices"` // registered
	// Online is how many devices the edges said they hold when they renewed
	// their leases.
	Online int `json:"online"`
	// Behind are the inboxes with the most unacknowledged messages, of those
	// that hold the most.
	Behind []*Inbox `json:"behind"`
}

// Server is the one that the operator is connected to.
type Server struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Cluster string        `json:"cluster,omitempty"`
	URL     string        `json:"url"`
	RTT     time.Duration `json:"rttNanos"`
}

// Store is what the tenant has stored in all, in bytes. A limit of -1 is none.
type Store struct {
	Used      uint64 `json:"used"`
	Limit     int64  `json:"limit"`
	Streams   int    `json:"streams"`
	Consumers int    `json:"consumers"`
	APIErrors uint64 `json:"apiErrors"`
}

// StreamStatus is one stream of the tenant.
type StreamStatus struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// PerSecond is how many messages were stored a second while it was watched.
	PerSecond float64    `json:"perSecond"`
	Last      *time.Time `json:"last,omitempty"` // when the last message was stored
	Consumers int        `json:"consumers"`
	Leader    string     `json:"leader,omitempty"` // empty on a server that is no cluster
	Replicas  []Replica  `json:"replicas,omitempty"`

	lastSeq uint64
	at      time.Time // by the server's clock
	info    *jetstream.StreamInfo
}

// Replica is a copy of a stream beside its leader.
type Replica struct {
	Name    string        `json:"name"`
	Current bool          `json:"current"`
	Offline bool          `json:"offline,omitempty"`
	Lag     uint64        `json:"lag"`
	Heard   time.Duration `json:"heardNanos"` // how long ago
}

// Coordinator is one that runs.
type Coordinator struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// Unready is why it cannot do its work; "" if it can.
	Unready string `json:"unready,omitempty"`
	// Unserved is how many other tenants its process does not serve.
	Unserved int `json:"unserved,omitempty"`
	// Shards are those that it works. An older version works all, and does not say so.
	Shards []int `json:"shards"`
}

// StatusOptions say how to look.
type StatusOptions struct {
	// Interval is how long streams are watched to tell their rates; 0: not.
	Interval time.Duration
	// Behind is how many inboxes to name.
	Behind int
}

// Streams of a tenant, in the order in which they matter, buckets last.
func streams() []string {
	return []string{
		layout.StreamInbox, layout.StreamCursor, subjects.StreamLater, layout.StreamRoute, layout.StreamDeadline,
		subjects.StreamTopic, subjects.StreamUp, subjects.StreamEvent, layout.StreamAudit,
		bucketStream(layout.BucketDevices), bucketStream(layout.BucketSessions), bucketStream(layout.BucketEdges), bucketStream(layout.BucketTasks),
		bucketStream(layout.BucketAccount),
	}
}

// Status looks at the whole tenant. It returns what it found out even when it
// returns an error.
func (t *Tenant) Status(ctx context.Context, opts StatusOptions) (s *Status, err error) {
	if len(t.parts) > 0 {
		return t.statusOfAll(ctx, opts)
	}
	s = &Status{Behind: []*Inbox{}, Coordinators: []Coordinator{}, Edges: []Edge{}}
	if s.Server, err = t.server(); err != nil {
		return s, err
	}
	if s.Store, err = t.store(ctx); err != nil {
		return s, err
	}
	if s.Streams, err = t.streams(ctx, opts.Interval); err != nil {
		return s, err
	}
	if s.Edges, err = t.Edges(ctx); err != nil {
		return s, err
	}
	for _, e := range s.Edges {
		s.Online += e.Devices
	}
	if s.Coordinators, err = t.coordinators(ctx); err != nil {
		return s, err
	}
	if s.Servers, err = t.Servers(ctx); err != nil {
		return s, err
	}
	if s.Devices, err = t.registered(ctx); err != nil {
		return s, err
	}
	s.Behind, err = t.behind(ctx, opts.Behind)
	return s, err
}

// server is the one that this is connected to.
func (t *Tenant) server() (Server, error) {
	rtt, err := t.nc.RTT()
	if err != nil {
		return Server{}, fmt.Errorf("ops: the server does not answer: %w", err)
	}
	return Server{
		Name: t.nc.ConnectedServerName(), Version: t.nc.ConnectedServerVersion(), Cluster: t.nc.ConnectedClusterName(),
		URL: cmp.Or(t.url, t.nc.ConnectedUrlRedacted()), RTT: rtt,
	}, nil
}

func (t *Tenant) store(ctx context.Context) (Store, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a, err := t.js.AccountInfo(ctx)
	if err != nil {
		return Store{}, fmt.Errorf("ops: ask for the account's storage: %w", err)
	}
	s := Store{Used: a.Store, Limit: a.Limits.MaxStore, Streams: a.Streams, Consumers: a.Consumers, APIErrors: a.API.Errors}
	if s.Limit == 0 {
		s.Limit = -1 // tiers have their own
	}
	return s, nil
}

// streams looks at all streams, twice when there is an interval.
func (t *Tenant) streams(ctx context.Context, interval time.Duration) ([]StreamStatus, error) {
	first, err := t.look(ctx)
	if err != nil || interval <= 0 {
		return first, err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return first, ctx.Err()
	}
	second, err := t.look(ctx)
	if err != nil {
		return first, err
	}
	for i := range second {
		a, b := &first[i], &second[i]
		if took := b.at.Sub(a.at).Seconds(); took > 0 && b.lastSeq >= a.lastSeq {
			b.PerSecond = float64(b.lastSeq-a.lastSeq) / took
		}
	}
	return second, nil
}

func (t *Tenant) look(ctx context.Context) ([]StreamStatus, error) {
	names := streams()
	list := make([]StreamStatus, len(names))
	err := forEach(ctx, len(names), nil, func(ctx context.Context, i int) error {
		info, err := t.info(ctx, names[i])
		if err == nil {
			list[i] = newStreamStatus(info)
		}
		return err
	})
	return list, err
}

func newStreamStatus(info *jetstream.StreamInfo) StreamStatus {
	s := StreamStatus{
		Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes, Consumers: info.State.Consumers,
		lastSeq: info.State.LastSeq, at: info.TimeStamp, info: info,
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	if at := info.State.LastTime; !at.IsZero() && info.State.LastSeq > 0 {
		s.Last = &at
	}
	if info.Cluster == nil {
		return s
	}
	if info.Config.Replicas > 1 {
		s.Leader = info.Cluster.Leader
	}
	for _, p := range info.Cluster.Replicas {
		s.Replicas = append(s.Replicas, Replica{Name: p.Name, Current: p.Current, Offline: p.Offline, Lag: p.Lag, Heard: p.Active})
	}
	return s
}

// registered counts devices: forgotten ones have left their marks in the
// bucket.
func (t *Tenant) registered(ctx context.Context) (n int, err error) {
	err = t.scanEntries(ctx, bucketStream(layout.BucketDevices), func(gone bool) {
		if !gone {
			n++
		}
	})
	return n, err
}

// behind are the inboxes with the most unacknowledged messages.
func (t *Tenant) behind(ctx context.Context, n int) ([]*Inbox, error) {
	const looked = 200 // of those that hold the most
	list, _, err := t.Inboxes(ctx, InboxQuery{Order: ByStored, Limit: looked, Unacknowledged: true})
	if err != nil {
		return []*Inbox{}, err
	}
	slices.SortStableFunc(list, func(a, b *Inbox) int { return cmp.Compare(b.Unacknowledged, a.Unacknowledged) })
	return append([]*Inbox{}, list[:min(n, len(list))]...), nil
}

// coordinatorService is the name by which coordinators answer as a micro
// service.
const coordinatorService = "rccs-coordinator"

func (t *Tenant) coordinators(ctx context.Context) ([]Coordinator, error) {
	list := []Coordinator{}
	err := gather(ctx, t.nc, "$SRV.PING."+coordinatorService, nil, func(data []byte) error {
		var c Coordinator
		if err := json.Unmarshal(data, &c); err != nil {
			return fmt.Errorf("ops: a coordinator's answer: %w", err)
		}
		list = append(list, c)
		return nil
	})
	slices.SortFunc(list, func(a, b Coordinator) int { return strings.Compare(a.ID, b.ID) })
	return list, err
}
