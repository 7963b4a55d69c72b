package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rccs-io/rccs/internal/direct"
	"github.com/rccs-io/rccs/internal/envelope"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/proof"
	"github.com/rccs-io/rccs/subjects"
)

// Topic is a topic that holds messages.
type Topic struct {
	Topic     string `json:"topic"`
	Messages  uint64 `json:"messages"`
	Followers int    `json:"followers"` // connected devices that subscribe to it
}

// TopicQuery says which topics to list.
type TopicQuery struct {
	// Text is a part of the name, in capitals or not.
	Text string
	// After goes on behind this topic.
	After string
	// Limit bounds the list; 0: no bound.
	Limit int
}

// Topics lists the topics that hold messages, by name. more reports whether
// there are others behind those that were returned.
func (t *Tenant) Topics(ctx context.Context, q TopicQuery) (list []Topic, more bool, err error) {
	counts, err := t.counts(ctx, subjects.StreamTopic, subjects.AllTopics())
	if err != nil {
		return nil, false, err
	}
	for subject, n := range counts {
		name, ok := subjects.ParseTopic(subject)
		if ok && name > q.After && holds(name, q.Text) {
			list = append(list, Topic{Topic: name, Messages: n})
		}
	}
	slices.SortFunc(list, func(a, b Topic) int { return strings.Compare(a.Topic, b.Topic) })
	if q.Limit > 0 && len(list) > q.Limit {
		list, more = list[:q.Limit], true
	}
	return list, more, t.countFollowers(ctx, list)
}

// countFollowers asks the edges how many devices follow each topic. An edge that
// does not answer counts for nothing.
func (t *Tenant) countFollowers(ctx context.Context, list []Topic) error {
	if len(list) == 0 {
		return nil
	}
	edges, err := t.Edges(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Topic
	}
	for _, e := range edges {
		var answer struct {
			Followers map[string]int `json:"followers"`
		}
		if err := t.askEdge(ctx, e.ID, edgeAsk{Do: edgeFollowers, Topics: names}, &answer); err != nil {
			t.log.Debug("followers of topics not known", "edge", e.ID, "err", err)
			continue
		}
		for i := range list {
			list[i].Followers += answer.Followers[list[i].Topic]
		}
	}
	return nil
}

// Follower is a connected device that subscribes to a topic.
type Follower struct {
	User   string `json:"user"`
	Device string `json:"device"`
	Edge   string `json:"edge"` // the name of that which it is connected to
}

// name is USER/DEVICE.
func (f Follower) name() string { return f.User + "/" + f.Device }

// Followers lists the devices that subscribe to a topic, by name, behind after,
// which is USER/DEVICE. more reports whether there are others behind those that
// were returned. An edge that does not answer counts for nothing. The error wraps
// [subjects.ErrName] when there can be no such topic.
func (t *Tenant) Followers(ctx context.Context, topic, after string, limit int) (list []Follower, more bool, err error) {
	if _, err := subjects.Topic(topic); err != nil {
		return nil, false, err
	}
	edges, err := t.Edges(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, e := range edges {
		var answer struct {
			Devices []string `json:"devices"`
		}
		ask := edgeAsk{Do: edgeFollowing, Topics: []string{topic}, After: after, Limit: limit + 1}
		if err := t.askEdge(ctx, e.ID, ask, &answer); err != nil {
			t.log.Debug("followers of a topic not known", "edge", e.ID, "err", err)
			continue
		}
		for _, name := range answer.Devices {
			user, device, _ := strings.Cut(name, "/")
			list = append(list, Follower{User: user, Device: device, Edge: e.Name})
		}
	}
	slices.SortFunc(list, func(a, b Follower) int { return strings.Compare(a.name(), b.name()) })
	if len(list) > limit {
		list, more = list[:limit], true
	}
	return list, more, nil
}

// TopicMessage is a stored message of a topic.
type TopicMessage struct {
	Seq       uint64            `json:"seq"`
	ID        string            `json:"id"`
	From      subjects.DeviceID `json:"from"`
	Timestamp string            `json:"timestamp"`
	Data      json.RawMessage   `json:"data"`
	Encoding  string            `json:"encoding,omitempty"`
}

func newTopicMessage(p *proof.Key, s *direct.Stored) TopicMessage {
	m := Message{Seq: s.Seq, Stored: time.Unix(0, s.Time).UTC(), header: s.Header}
	m.describe(false)
	out := TopicMessage{Seq: m.Seq, ID: envelope.TopicID(s.Header, s.Seq), Timestamp: m.Timestamp}
	out.From, _ = envelope.TopicSender(p, envelope.Stored(*s))
	out.Data, out.Encoding = envelope.NestedPayload(s.Data)
	return out
}

// TopicMessages lists messages of a topic from a sequence on. next is the
// sequence to go on from, 0 at the end. The error wraps [subjects.ErrName] when
// there can be no such topic.
func (t *Tenant) TopicMessages(ctx context.Context, topic string, from uint64, limit, maxBytes int) (list []TopicMessage, next uint64, err error) {
	subject, err := subjects.Topic(topic)
	if err != nil {
		return nil, 0, err
	}
	key, err := t.proof(ctx)
	if err != nil {
		return nil, 0, err
	}
	msgs, left, err := t.direct.Next(ctx, subjects.StreamTopic, subject, max(from, 1), limit, maxBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("ops: read a topic: %w", err)
	}
	for i := range msgs {
		list = append(list, newTopicMessage(key, &msgs[i]))
	}
	if left > 0 && len(msgs) > 0 {
		next = msgs[len(msgs)-1].Seq + 1
	}
	return list, next, nil
}

// LastOfTopic lists the last messages of a topic, the oldest first.
func (t *Tenant) LastOfTopic(ctx context.Context, topic string, limit, maxBytes int) ([]TopicMessage, error) {
	head, err := t.head(ctx, subjects.StreamTopic)
	if err != nil {
		return nil, err
	}
	// How far back they begin is not known: other topics lie between.
	for span := uint64(limit); ; span *= 8 { //nolint:gosec // limits are positive
		from := uint64(1)
		if head > layout.FirstTopicSeq+span {
			from = head - span
		}
		list, next, err := t.TopicMessages(ctx, topic, from, limit, maxBytes)
		for err == nil && next > 0 {
			var more []TopicMessage
			more, next, err = t.TopicMessages(ctx, topic, next, limit, maxBytes)
			list = append(list, more...)
			list = list[max(len(list)-limit, 0):]
		}
		if err != nil || len(list) >= limit || from == 1 {
			return list, err
		}
	}
}
