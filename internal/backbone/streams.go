package backbone

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// Defaults of a [Plan].
const (
	DefaultMaxAge     = 7 * 24 * time.Hour
	DefaultMaxPerLane = 100_000
)

// Plan says how the streams of a tenant are configured.
type Plan struct {
	// Replicas is on how many servers each message is: 1, 3 or 5. Zero means 1
	// for what is created, and what it is for what exists.
	Replicas int
	// MaxAge is how long a message waits for its device. Zero means
	// [DefaultMaxAge].
	MaxAge time.Duration
	// MaxPerLane is how many messages a lane of an inbox keeps, acknowledged
	// ones included; past it the oldest goes. It must be well above the bound
	// on unacknowledged messages. Zero means [DefaultMaxPerLane].
	MaxPerLane int64
	// StoreBytes is the tenant's share of the store. Its streams of messages are
	// bounded so that a tenth is left for those that registration,
	// acknowledgement and revocation need. Zero leaves bounds as they are.
	StoreBytes int64
	// Shards is how many sets of those streams there are that hold what is for
	// users; 0 is 1.
	Shards int
	// Logger is told of what was created and changed. Nil discards it.
	Logger *slog.Logger
}

func (p Plan) withDefaults() (Plan, error) {
	switch {
	case p.Replicas < 0 || p.Replicas > 5:
		return p, fmt.Errorf("backbone: Plan.Replicas is %d: NATS keeps 1 to 5 copies", p.Replicas)
	case p.MaxAge < 0:
		return p, fmt.Errorf("backbone: Plan.MaxAge is negative: %s", p.MaxAge)
	case p.MaxPerLane < 0:
		return p, fmt.Errorf("backbone: Plan.MaxPerLane is negative: %d", p.MaxPerLane)
	}
	if p.MaxAge == 0 {
		p.MaxAge = DefaultMaxAge
	}
	p.Shards = max(p.Shards, 1)
	if p.MaxPerLane == 0 {
		p.MaxPerLane = DefaultMaxPerLane
	}
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	return p, nil
}

// planned is a stream, and what makes it.
type planned struct {
	name string
	// shape changes only the fields that RCCS owns. Applied to an existing
	// configuration, it gives the target.
	shape func(*jetstream.StreamConfig)
}

// streams are those of a tenant, in the order in which they are made.
func (p Plan) streams() []planned {
	var all []planned
	for _, s := range shard.All(p.Shards) {
		for _, one := range p.ofShard(s) {
			all = append(all, planned{s.Stream(one.name), func(c *jetstream.StreamConfig) {
				one.shape(c)
				s.Place(c)
			}})
		}
	}
	return append(all, p.ofTenant()...)
}

// ofShard are the streams that each shard has.
func (p Plan) ofShard(s shard.Shard) []planned {
	if p.StoreBytes > 0 {
		p.StoreBytes /= int64(s.Count())
	}
	return []planned{
		{subjects.StreamLater, p.later}, // the inbox stream sources it
		{layout.StreamInbox, p.inbox},
		{layout.StreamCursor, p.cursor},
		{layout.StreamRoute, p.route},
		{layout.StreamDeadline, p.deadline},
	}
}

// ofTenant are the streams that a tenant has once.
func (p Plan) ofTenant() []planned {
	return []planned{
		{subjects.StreamTopic, p.topic},
		{subjects.StreamUp, p.up},
		{subjects.StreamEvent, p.event},
		{layout.StreamAudit, p.audit},
	}
}

// Streams are the names of the streams of a tenant with one shard, buckets among
// them.
func Streams() []string { return StreamsOf(1) }

// StreamsOf is [Streams] for a tenant with so many shards.
func StreamsOf(shards int) []string {
	var names []string
	plan := Plan{Shards: shards}
	for _, s := range plan.streams() {
		names = append(names, s.name)
	}
	for _, b := range plan.buckets() {
		names = append(names, "KV_"+b.Bucket)
	}
	return names
}

// common sets what all streams of RCCS have in common.
func (p Plan) common(c *jetstream.StreamConfig) {
	c.Retention = jetstream.LimitsPolicy
	c.Storage = jetstream.FileStorage
	c.Compression = jetstream.NoCompression
	if c.MaxBytes <= 0 || p.StoreBytes > 0 {
		c.Discard = jetstream.DiscardOld
		c.MaxBytes = -1
	}
	c.DiscardNewPerSubject = false
	c.MaxMsgs = -1
	c.AllowDirect = true
	c.DenyPurge = false // forgetting a device purges what is its
	c.NoAck = false
	c.RePublish = nil // makes every publish load the last message of its subject
	// A header of a sender must not empty a lane, make a message go without
	// anyone being told "expired", or come later.
	c.AllowRollup = false
	c.AllowMsgTTL = false
	c.AllowMsgSchedules = false
	c.AllowMsgCounter = false
	if p.Replicas != 0 {
		c.Replicas = p.Replicas
	} else if c.Replicas == 0 {
		c.Replicas = 1
	}
}

// inbox sets what makes the inbox stream.
func (p Plan) inbox(c *jetstream.StreamConfig) {
	p.common(c)
	c.Subjects = layout.AllInboxes()
	c.MaxMsgsPerSubject = p.MaxPerLane
	c.MaxAge = p.MaxAge
	c.Duplicates = min(layout.DedupWindow, p.MaxAge)
	c.AllowAtomicPublish = true
	c.AllowBatchPublish = true
	from, to := layout.DueToInbox()
	c.Sources = []*jetstream.StreamSource{{
		Name:              subjects.StreamLater,
		SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: from, Destination: to}},
	}}
	p.bound(c, inboxPercent, jetstream.DiscardNew)
}

// later sets what makes the stream of delayed messages. Schedules allow a
// header of a publisher to empty a subject, so they are kept out of the inbox
// stream, which takes from this one what is due.
func (p Plan) later(c *jetstream.StreamConfig) {
	p.common(c)
	c.Subjects = layout.AllLater()
	c.MaxMsgsPerSubject = p.MaxPerLane
	c.Duplicates = layout.DedupWindow
	c.MaxAge = 0 // what waits for its time is not old
	c.AllowAtomicPublish = true
	c.AllowMsgSchedules = true
	c.AllowRollup = true // implied
}

// brief sets what the streams have alike whose messages are used up soon or
// serve as a record: they go with age.
func (p Plan) brief(c *jetstream.StreamConfig, names ...string) {
	p.common(c)
	c.Subjects = names
	c.MaxAge = p.MaxAge
	c.Duplicates = min(layout.DedupWindow, p.MaxAge)
}

func (p Plan) route(c *jetstream.StreamConfig) {
	p.brief(c, layout.AllRoutes()...)
	p.bound(c, routePercent, jetstream.DiscardNew)
}

// deadline sets what makes the stream of deadlines. An entry outlives the
// message that it is about, so that the sender hears what retention took.
func (p Plan) deadline(c *jetstream.StreamConfig) {
	p.brief(c, layout.AllDeadlines())
	c.MaxAge = 0
	c.Duplicates = layout.DedupWindow
}

func (p Plan) up(c *jetstream.StreamConfig) {
	p.brief(c, layout.AllUp())
	p.bound(c, upPercent, jetstream.DiscardNew)
}

func (p Plan) event(c *jetstream.StreamConfig) {
	p.brief(c, layout.AllEvents())
	p.bound(c, eventPercent, jetstream.DiscardOld)
}

// What of the tenant's share the streams of messages may take, in percent.
const (
	inboxPercent = 60
	topicPercent = 15
	upPercent    = 5
	eventPercent = 2
	routePercent = 1
	taskPercent  = 1
	// Of the rest 6 are for delayed messages, whose stream cannot refuse and must
	// not drop: package share keeps them to it. The others are what no message can
	// take.
)

// bound gives a stream its part of the tenant's share. Past it a stream of what
// is to be delivered refuses, and one that serves as a record drops the oldest.
func (p Plan) bound(c *jetstream.StreamConfig, percent int64, discard jetstream.DiscardPolicy) {
	if p.StoreBytes > 0 {
		c.MaxBytes, c.Discard = p.part(percent), discard
	}
}

// part is so many percent of the tenant's share; 0: it has none.
func (p Plan) part(percent int64) int64 {
	if p.StoreBytes <= 0 {
		return 0
	}
	return max(p.StoreBytes/100*percent, min(minBound, p.StoreBytes/100*minPercent))
}

// What a stream may hold at least: a few messages. Of a small share that is no
// more than so many percent, for all parts and the reserve must fit into it.
const (
	minBound   = 256 << 10
	minPercent = 2
)

// auditAge is how long it is kept what operators did.
const auditAge = 365 * 24 * time.Hour

// audit sets what makes the stream of what operators do: nothing is removed from
// it before its time, by nobody.
func (p Plan) audit(c *jetstream.StreamConfig) {
	p.brief(c, layout.AllAudits())
	c.MaxAge = auditAge
	c.Duplicates = layout.DedupWindow
	c.DenyDelete, c.DenyPurge = true, true
}

// topic sets what makes the stream of topics.
func (p Plan) topic(c *jetstream.StreamConfig) {
	fresh := c.Replicas == 0
	p.brief(c, subjects.AllTopics())
	// Services hear topics from it: what they publish themselves does not come
	// back to their account otherwise.
	c.RePublish = &jetstream.RePublish{Source: subjects.AllTopics(), Destination: layout.HeardTopics()}
	c.MaxMsgsPerSubject = p.MaxPerLane
	p.bound(c, topicPercent, jetstream.DiscardOld)
	if fresh {
		c.FirstSeq = layout.FirstTopicSeq
	}
}

// cursor sets what makes the cursor stream: the last message of each subject.
func (p Plan) cursor(c *jetstream.StreamConfig) {
	p.common(c)
	c.Subjects = []string{layout.AllCursors()}
	c.MaxMsgsPerSubject = 1
	c.MaxAge = 0
	// Not allowed together with written-behind, which streams of earlier versions are,
	// and stay: the server does not change it. A disk that gets full takes from such a
	// stream the cursor that it cannot write, and the one which that replaced.
	c.AllowAtomicPublish = false
	c.AllowBatchPublish = false
}
