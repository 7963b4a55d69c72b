package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/roster"
)

// Edge is an edge that holds a lease.
type Edge struct {
	roster.Edge
	// Renewed is when it last renewed its lease, by the server's clock.
	Renewed time.Time `json:"renewed"`
}

// Edges are the edges that live, by name: leases that are not renewed go by
// themselves.
func (t *Tenant) Edges(ctx context.Context) ([]Edge, error) {
	if len(t.parts) > 0 {
		return t.edgesOfAll(ctx)
	}
	stream := bucketStream(layout.BucketEdges)
	if _, err := t.info(ctx, stream); err != nil {
		return nil, err
	}
	stored, err := t.lastOf(ctx, stream, layout.AllEdges())
	if err != nil {
		return nil, err
	}
	edges := make([]Edge, 0, len(stored))
	for i := range stored {
		id, ok := layout.ParseEdgeSubject(stored[i].Subject)
		if !ok || deleted(stored[i].Header) {
			continue
		}
		e := Edge{Renewed: time.Unix(0, stored[i].Time).UTC()}
		if json.Unmarshal(stored[i].Data, &e.Edge) != nil {
			continue // no edge writes such a lease, and none of the others believes it
		}
		e.ID = id
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b Edge) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return edges, nil
}

// FindEdge is the edge of that name or id.
func (t *Tenant) FindEdge(ctx context.Context, name string) (Edge, error) {
	edges, err := t.Edges(ctx)
	if err != nil {
		return Edge{}, err
	}
	names := make([]string, len(edges))
	for i, e := range edges {
		if e.Name == name || e.ID == name {
			return e, nil
		}
		names[i] = e.Name
	}
	return Edge{}, fmt.Errorf("no edge is called %q; there are: %s", name, strings.Join(names, ", "))
}

// OnlyEdge is an error when no other edge than e takes devices: e has nowhere to
// send those that it has.
func (t *Tenant) OnlyEdge(ctx context.Context, e *Edge) error {
	edges, err := t.Edges(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(edges, func(o Edge) bool { return o.ID != e.ID && !o.Draining }) {
		return nil
	}
	return fmt.Errorf("%w: those of %s would have nowhere to go", ErrOnlyEdge, e.Name)
}

// ErrOnlyEdge is wrapped by what [Tenant.OnlyEdge] returns for such an edge.
var ErrOnlyEdge = errors.New("no other edge takes devices")

// edgeTimeout bounds the wait for an edge's answer.
const edgeTimeout = 5 * time.Second

// What an edge can be asked for: to send its devices elsewhere, to take them
// again, and how many connections it has.
const (
	EdgeDrain  = "drain"
	EdgeResume = "resume"
	EdgeCount  = "count"

	edgeFollowers = "followers" // how many devices there follow each of some topics
	edgeFollowing = "following" // which devices there follow a topic
)

// edgeAsk is what an edge is asked.
type edgeAsk struct {
	Do     string   `json:"do"`
	Rate   int      `json:"rate,omitempty"`
	Topics []string `json:"topics,omitempty"`
	After  string   `json:"after,omitempty"`
	Limit  int      `json:"limit,omitempty"`
}

// AskEdge asks an edge to do something, and says how many connections it has.
// rate is how many of them a second it closes, 0 its own rate; it does not wait
// until they are gone.
func (t *Tenant) AskEdge(ctx context.Context, id, do string, rate int) (int, error) {
	var answer struct {
		Connections int `json:"connections"`
	}
	err := t.askEdge(ctx, id, edgeAsk{Do: do, Rate: rate}, &answer)
	return answer.Connections, err
}

// ErrNotDraining means that an edge that is to take devices again takes them.
var ErrNotDraining = errors.New("the edge does not drain")

// ResumeEdge lets an edge that drains take devices again. The error wraps
// [ErrNotDraining] if it takes them already.
func (t *Tenant) ResumeEdge(ctx context.Context, id string) error {
	answer := struct {
		WasDraining bool `json:"wasDraining"`
	}{WasDraining: true} // edges of an earlier version do not say
	err := t.askEdge(ctx, id, edgeAsk{Do: EdgeResume}, &answer)
	if err == nil && !answer.WasDraining {
		err = audit.Refused(ErrNotDraining)
	}
	return err
}

func (t *Tenant) askEdge(ctx context.Context, id string, ask edgeAsk, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, edgeTimeout)
	defer cancel()
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	m, err := t.nc.RequestWithContext(ctx, layout.Drain(id), body)
	if err != nil {
		return fmt.Errorf("the edge does not answer: %w", err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("the edge's answer: %w", err)
	}
	return nil
}

// lastOf is the last message of each subject of a pattern of which few are
// stored.
func (t *Tenant) lastOf(ctx context.Context, stream, pattern string) (all []direct.Stored, err error) {
	for from := uint64(0); ; {
		msgs, left, err := t.direct.Get(ctx, stream, &direct.Request{MultiLast: []string{pattern}, MaxBytes: readBytes, Seq: from})
		if err != nil {
			return nil, fmt.Errorf("ops: read %s: %w", t.shard.Stream(stream), err)
		}
		all = append(all, msgs...)
		if left == 0 || len(msgs) == 0 {
			return all, nil
		}
		from = msgs[len(msgs)-1].Seq + 1
	}
}

// edgeNames are the names of the edges that live, by id.
func (t *Tenant) edgeNames(ctx context.Context) (map[string]string, error) {
	edges, err := t.Edges(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(edges))
	for _, e := range edges {
		names[e.ID] = e.Name
	}
	return names, nil
}
