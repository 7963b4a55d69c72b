package shard

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream returns js for one who knows the names of package layout: streams,
// buckets and subjects are those of this shard.
func (s Shard) JetStream(js jetstream.JetStream) jetstream.JetStream {
	if s.Alone() {
		return js
	}
	return &view{js, s}
}

// Place has a stream of package layout take what is published to this shard, and
// store it on the subjects that the stream of an only shard has. A bucket's subjects
// get the shard's number.
func (s Shard) Place(c *jetstream.StreamConfig) {
	if s.Alone() {
		return
	}
	c.Subjects = s.Subjects(c.Subjects...)
	if !strings.HasPrefix(c.Name, kvStream) {
		from, to := s.Transform()
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: from, Destination: to}
	}
	for _, source := range c.Sources {
		source.Name = s.Stream(source.Name)
	}
}

// InShard reports whether js is the view of one of several shards.
func InShard(js jetstream.JetStream) bool {
	_, ok := js.(*view)
	return ok
}

// view is JetStream as one shard has it. The methods that RCCS's parts use take
// names of package layout; the others, and the names in answers, are NATS's own.
type view struct {
	jetstream.JetStream
	shard Shard
}

func (v *view) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return v.JetStream.Stream(ctx, v.shard.Stream(name))
}

func (v *view) DeleteStream(ctx context.Context, name string) error {
	return v.JetStream.DeleteStream(ctx, v.shard.Stream(name))
}

func (v *view) CreateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return v.JetStream.CreateConsumer(ctx, v.shard.Stream(stream), cfg)
}

func (v *view) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	return v.JetStream.Consumer(ctx, v.shard.Stream(stream), name)
}

func (v *view) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	return v.JetStream.KeyValue(ctx, v.shard.Bucket(bucket))
}

func (v *view) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return v.JetStream.Publish(ctx, v.shard.Subject(subject), data, opts...)
}

func (v *view) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	v.shard.Address(m)
	return v.JetStream.PublishMsg(ctx, m, opts...)
}
