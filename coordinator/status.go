package coordinator

import (
	"context"
	"time"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// statusView is a summary of the tenant.
type statusView struct {
	Coordinator struct {
		ID      string    `json:"id"`
		Name    string    `json:"name"`
		Version string    `json:"version"`
		Started time.Time `json:"started"`
	} `json:"coordinator"`
	Devices int           `json:"devices"` // registered
	Online  int           `json:"online"`
	Edges   []roster.Edge `json:"edges"`
	Streams []streamView  `json:"streams"`
	// Routing is what is known of messages without a device.
	Routing struct {
		Fresh int    `json:"fresh"` // not looked at yet
		Users int    `json:"users"` // that have any
		Read  uint64 `json:"read"`  // sequence of the route stream, of all shards together
	} `json:"routing"`
	Deadlines int `json:"deadlines"` // to come
}

type streamView struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	Subjects uint64 `json:"subjects"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// status answers with a statusView.
func (c *Coordinator) status(ctx context.Context, req *request) (any, *wire.Error) {
	if werr := req.decode(new(struct{})); werr != nil {
		return nil, werr
	}
	var v statusView
	v.Coordinator.ID, v.Coordinator.Name = c.id, c.opts.Name
	v.Coordinator.Version, v.Coordinator.Started = c.opts.Version, c.started.UTC()
	v.Devices = c.roster.Len()
	c.roster.All(func(d roster.Device) bool {
		if d.Online {
			v.Online++
		}
		return true
	})
	v.Edges = append([]roster.Edge{}, c.roster.Edges()...)
	for _, name := range []string{
		layout.StreamInbox, subjects.StreamLater, layout.StreamRoute, layout.StreamDeadline, layout.StreamCursor,
		subjects.StreamTopic, subjects.StreamUp, subjects.StreamEvent, layout.StreamAudit,
	} {
		s, err := c.js.Stream(ctx, name)
		if err != nil {
			return nil, c.wireError("stream not looked up", err)
		}
		state := s.CachedInfo().State
		v.Streams = append(v.Streams, streamView{
			Name: c.opts.Shard.Stream(name), Messages: state.Msgs, Bytes: state.Bytes, Subjects: state.NumSubjects, First: state.FirstSeq, Last: state.LastSeq,
		})
	}
	return &v, nil
}
