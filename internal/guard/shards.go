package guard

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// A tenant with several shards has a stream of delayed messages for each. Services
// know one: what they ask of it is about a user, and goes to that user's shard.

// shardOf returns the shard of a user's token.
func (g *Guard) shardOf(user string) shard.Shard {
	n := max(g.opts.Shards, 1)
	return shard.At(shard.Of(user, n), n)
}

// inShard returns the request to JetStream for the user's shard. What services
// may purge is always one user's.
func (g *Guard) inShard(api []string, body []byte) []string {
	if g.opts.Shards <= 1 || len(api) != 3 || api[0] != "STREAM" || api[1] != "PURGE" {
		return api
	}
	var q struct {
		Filter string `json:"filter"`
	}
	if json.Unmarshal(body, &q) != nil {
		return api // examinePurge has read it
	}
	user, _, _ := strings.Cut(strings.TrimPrefix(q.Filter, layout.LaterPrefix), ".")
	api = slices.Clone(api)
	api[2] = g.shardOf(user).Stream(api[2])
	return api
}

const streamInfo = "STREAM.INFO."

// infoOfAll returns what services see of the streams of delayed messages as of
// one: the sum of their states. Sequences are left out, since each stream has its
// own.
func (g *Guard) infoOfAll(body []byte) []byte {
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	var sum map[string]any
	for _, s := range shard.All(g.opts.Shards) {
		name := s.Stream(subjects.StreamLater)
		answer, err := g.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: layout.JetStreamAPI("STREAM", "INFO", name), Data: body})
		var one map[string]any
		if err == nil {
			err = json.Unmarshal(answer.Data, &one)
		}
		if err != nil {
			return (&refusal{503, 10008, "JetStream system temporarily unavailable"}).answer("stream_info_response")
		}
		if one["error"] != nil {
			return answer.Data
		}
		sum = addInfo(sum, one)
	}
	text, err := json.Marshal(sum)
	if err != nil {
		return nil // it was JSON before
	}
	return text
}

// addInfo adds what a stream says of itself to what others have said.
func addInfo(sum, one map[string]any) map[string]any {
	state, _ := one["state"].(map[string]any)
	for _, name := range []string{"first_seq", "last_seq"} {
		delete(state, name)
	}
	if sum == nil {
		if config, ok := one["config"].(map[string]any); ok {
			config["name"], config["subjects"] = subjects.StreamLater, layout.AllLater()
			delete(config, "subject_transform")
		}
		return one
	}
	total, _ := sum["state"].(map[string]any)
	for _, name := range []string{"messages", "bytes", "num_subjects", "consumer_count"} {
		a, _ := total[name].(float64)
		b, _ := state[name].(float64)
		if a+b > 0 {
			total[name] = a + b
		}
	}
	found, _ := state["subjects"].(map[string]any)
	all, _ := total["subjects"].(map[string]any)
	if all == nil {
		if found != nil {
			total["subjects"] = found
		}
		return sum
	}
	maps.Copy(all, found)
	return sum
}
