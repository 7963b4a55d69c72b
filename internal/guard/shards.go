package guard

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"

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
	api = slices.Clone(api)
	api[2] = g.shardOf(layout.UserOfLater(q.Filter)).Stream(api[2])
	return api
}

const streamInfo = "STREAM.INFO."

// infoOfAll returns what services see of the streams of delayed messages as of
// one: the sum of their states. Sequences are left out, since each stream has its
// own. Subjects, if they are asked for, come in pages, as from JetStream: those of the
// first shard, in order, then those of the next.
func (g *Guard) infoOfAll(body []byte) []byte {
	ctx, cancel := context.WithTimeout(g.ctx, within)
	defer cancel()
	var sum map[string]any
	page := g.newPage(body)
	for _, s := range shard.All(g.opts.Shards) {
		name := s.Stream(subjects.StreamLater)
		answer, err := g.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: layout.JetStreamAPI("STREAM", "INFO", name), Data: page.request()})
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
		page.add(one)
		sum = addInfo(sum, one)
	}
	page.write(sum)
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
	return sum
}

// subjectPage is a page of the subjects of all shards. JetStream may answer with more than a
// client may send, so the pages of several shards are smaller than JetStream's own.
type subjectPage struct {
	body   []byte         // of the service's request
	asked  map[string]any // the same; nil: it does not ask for subjects
	offset int            // of the page, in the subjects of all shards
	room   int            // bytes that are left

	subjects map[string]any
	total    int  // subjects of the shards that were asked
	full     bool // what follows belongs to the next page
}

const (
	// infoBytes are those of an answer beside its subjects, at most: the configuration
	// is RCCS's own.
	infoBytes = 64 << 10
	// subjectBytes are those of a subject in an answer beside its name: quotes, a colon,
	// a comma, and a count.
	subjectBytes = 4 + 20
	// noSubjects is an offset behind all subjects.
	noSubjects = math.MaxInt32
)

// newPage is the page that a request asks for.
func (g *Guard) newPage(body []byte) *subjectPage {
	p := &subjectPage{body: body, room: int(g.nc.MaxPayload()) - infoBytes, subjects: make(map[string]any)}
	var asked map[string]any
	if json.Unmarshal(body, &asked) != nil { // JetStream says what is wrong with it
		return p
	}
	if filter, _ := asked["subjects_filter"].(string); filter == "" {
		return p
	}
	p.asked = asked
	if offset, _ := asked["offset"].(float64); offset > 0 {
		p.offset = int(min(offset, noSubjects))
	}
	return p
}

// request asks the next shard for what of its subjects may belong to the page, and how
// many it has.
func (p *subjectPage) request() []byte {
	if p.asked == nil {
		return p.body
	}
	p.asked["offset"] = max(p.offset-p.total, 0)
	if p.full {
		p.asked["offset"] = noSubjects
	}
	body, err := json.Marshal(p.asked)
	if err != nil {
		return p.body // it was JSON before
	}
	return body
}

// add takes the subjects out of a shard's answer, as many as there is room for.
func (p *subjectPage) add(answer map[string]any) {
	state, _ := answer["state"].(map[string]any)
	found, _ := state["subjects"].(map[string]any)
	has, _ := answer["total"].(float64)
	delete(state, "subjects")
	for _, name := range []string{"total", "offset", "limit"} {
		delete(answer, name)
	}
	before := len(p.subjects)
	skipped := max(p.offset-p.total, 0)
	for _, subject := range slices.Sorted(maps.Keys(found)) {
		if p.room -= len(subject) + subjectBytes; p.room < 0 {
			p.full = true
			break
		}
		p.subjects[subject] = found[subject]
	}
	if skipped+len(p.subjects)-before < int(has) {
		p.full = true // JetStream has left the rest of the shard to its next page
	}
	p.total += int(has)
}

// write puts the page into the answer for the service.
func (p *subjectPage) write(sum map[string]any) {
	state, _ := sum["state"].(map[string]any)
	if p.total == 0 || state == nil {
		return
	}
	sum["total"], sum["offset"], sum["limit"] = p.total, p.offset, len(p.subjects)
	if len(p.subjects) > 0 {
		state["subjects"] = p.subjects
	}
}
