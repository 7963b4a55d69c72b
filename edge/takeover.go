package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// When a device connects here while another edge holds it, this edge asks the
// other to release it. The other answers when everything that the device
// acknowledged there is stored. Otherwise the device would be sent again what it
// acknowledged in the last moments.

// releaseTimeout is how long the other edge may take. If it cannot be reached in
// that time, the device gets some messages twice.
const releaseTimeout = time.Second

// askRelease returns when the other edge has released the device, or does not
// answer in time. It reports whether the other edge says that the cursor is
// stored.
func (t *Tenant) askRelease(ctx context.Context, edge string, k subjects.Key, epoch uint64) (released bool) {
	if !t.Roster.Alive(edge) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if _, err := t.Core.RequestWithContext(ctx, layout.Release(edge), fmt.Appendf(nil, "%s %d", k, epoch)); err != nil {
		t.Logger.Info("the edge that held the device did not let go of it", "device", string(k), "edge", edge, "err", err)
		return false
	}
	return true
}

// onRelease releases a device that has connected elsewhere.
func (t *Tenant) onRelease(m *nats.Msg) {
	key, text, _ := strings.Cut(string(m.Data), " ")
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return
	}
	go func() { // it waits for the store
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		if err := t.release(ctx, subjects.Key(key), epoch); err != nil {
			t.Logger.Info("device not let go in time", "device", key, "err", err)
			return
		}
		if err := m.Respond(nil); err != nil {
			t.Logger.Debug("release not answered", "err", err)
		}
	}()
}

// release ends a device's connection and attachment here from before epoch, and
// returns when its cursor is stored.
func (t *Tenant) release(ctx context.Context, k subjects.Key, epoch uint64) error {
	if t.registering.busy(k) {
		return nil // it is connecting here again; the epochs decide
	}
	if c := t.find(k); c != nil {
		if c.sess.Epoch > epoch {
			return nil // it has come back since
		}
		c.Evicted()
	}
	return t.Inbox.Release(ctx, k)
}

// DrainAsk is what an operator asks of an edge.
type DrainAsk struct {
	// Do is DrainStart, DrainUndo, DrainCount, AskFollowers or AskFollowing.
	Do string `json:"do"`
	// Rate is how many connections a second are closed; 0: the edge's own.
	Rate int `json:"rate,omitempty"`
	// Topics are the topics of AskFollowers, or the one of AskFollowing.
	Topics []string `json:"topics,omitempty"`
	// After and Limit are for AskFollowing: at most Limit names, from behind
	// After.
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// What an edge can be asked for. The first three are answered with
// {"connections":n,"wasDraining":bool}.
const (
	DrainStart = "drain"  // refuse new devices, and send the connected ones elsewhere
	DrainUndo  = "resume" // take devices again
	DrainCount = "count"  // only tell how many connections there are
	// AskFollowers asks how many of the tenant's devices here follow each of some
	// topics, and is answered with {"followers":{TOPIC:n}}.
	AskFollowers = "followers"
	// AskFollowing asks which of the tenant's devices here follow a topic, and is
	// answered with {"devices":["USER/DEVICE"]}, in order.
	AskFollowing = "following"
)

// maxFollowing bounds the names of one answer to AskFollowing.
const maxFollowing = 1001

// onDrain does what an operator asks.
func (t *Tenant) onDrain(m *nats.Msg) {
	var ask DrainAsk
	err := json.Unmarshal(m.Data, &ask)
	switch {
	case err == nil && ask.Do == AskFollowers:
		t.respondJSON(m, map[string]any{"followers": t.followers(ask.Topics)})
		return
	case err == nil && ask.Do == AskFollowing:
		t.respondJSON(m, map[string]any{"devices": t.following(ask)})
		return
	case err != nil || t.Drain == nil:
		t.Logger.Warn("drain ignored", "err", err)
		return
	}
	n, was := t.Drain(ask)
	if ask.Do != DrainCount {
		t.Logger.Info("an operator asks", "do", ask.Do, "rate", ask.Rate, "connections", n)
	}
	if err := m.Respond(fmt.Appendf(nil, `{"connections":%d,"wasDraining":%t}`, n, was)); err != nil {
		t.Logger.Debug("drain not answered", "err", err)
	}
}

// followers returns how many devices follow each of some topics here.
func (t *Tenant) followers(topics []string) map[string]int {
	followers := make(map[string]int)
	for _, topic := range topics {
		if n := t.Topics.Followers(topic); n > 0 {
			followers[topic] = n
		}
	}
	return followers
}

// following returns the names of the devices that follow a topic here.
func (t *Tenant) following(ask DrainAsk) []string {
	if len(ask.Topics) != 1 {
		return nil
	}
	names := t.Topics.Owners(ask.Topics[0])
	behind, found := slices.BinarySearch(names, ask.After)
	if found {
		behind++
	}
	names = names[behind:]
	return names[:min(len(names), max(ask.Limit, 0), maxFollowing)]
}

// respondJSON answers an operator's request.
func (t *Tenant) respondJSON(m *nats.Msg, answer any) {
	body, err := json.Marshal(answer)
	if err == nil {
		err = m.Respond(body)
	}
	if err != nil {
		t.Logger.Debug("operator not answered", "err", err)
	}
}
