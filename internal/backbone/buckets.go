package backbone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// edgeLease is how long an edge's lease stands when it is not renewed: then
// the edge is dead, and its sessions end.
const edgeLease = 10 * time.Second

// codeLife is how long a one-time code of enrolment is kept: longer than any is
// good.
const codeLife = 25 * time.Hour

// bucketHistory is how many values of a key are kept.
const bucketHistory = 1

// buckets are the key-value buckets of a tenant. They always allow direct
// reads.
func (p Plan) buckets() []jetstream.KeyValueConfig {
	tasks := p
	tasks.StoreBytes /= int64(max(p.Shards, 1))
	var all []jetstream.KeyValueConfig
	for _, s := range shard.All(p.Shards) {
		all = append(all,
			jetstream.KeyValueConfig{Bucket: s.Bucket(layout.BucketDevices), Description: "What each device is"},
			jetstream.KeyValueConfig{Bucket: s.Bucket(layout.BucketSessions), Description: "Which edge holds each device"},
			jetstream.KeyValueConfig{Bucket: s.Bucket(layout.BucketEdges), Description: "The lease of each edge", TTL: edgeLease},
		)
	}
	all = append(all, jetstream.KeyValueConfig{Bucket: layout.BucketAccount, Description: "The tenant's account JWT"})
	for _, s := range shard.All(p.Shards) {
		all = append(all, jetstream.KeyValueConfig{
			Bucket: s.Bucket(layout.BucketTasks), Description: "Which device each task belongs to", TTL: p.MaxAge, MaxBytes: tasks.part(taskPercent),
		})
	}
	return append(all,
		jetstream.KeyValueConfig{Bucket: layout.BucketCodes, Description: "One-time codes of enrolment, hashed", TTL: codeLife},
		jetstream.KeyValueConfig{Bucket: layout.BucketEnrolled, Description: "The keys that devices made themselves"},
	)
}

// ensureBucket makes a bucket, or upgrades it.
func ensureBucket(ctx context.Context, js jetstream.JetStream, plan Plan, want jetstream.KeyValueConfig) error {
	want.History = bucketHistory
	want.Storage = jetstream.FileStorage
	want.Replicas = max(plan.Replicas, 1)
	kv, err := js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = js.CreateKeyValue(ctx, want)
		if storeerr.NoRoom(err) && want.MaxBytes > 0 {
			plan.Logger.Warn("the tenants' shares of the store do not fit: a bucket is without its bound", "bucket", want.Bucket, "bytes", want.MaxBytes)
			want.MaxBytes = 0
			_, err = js.CreateKeyValue(ctx, want)
		}
		if err == nil {
			plan.Logger.Debug("bucket created", "bucket", want.Bucket, "replicas", want.Replicas)
			return nil
		}
		if !errors.Is(err, jetstream.ErrBucketExists) {
			return fmt.Errorf("backbone: create bucket %s: %w", want.Bucket, err)
		}
		kv, err = js.KeyValue(ctx, want.Bucket)
	}
	if err != nil {
		return fmt.Errorf("backbone: look up bucket %s: %w", want.Bucket, err)
	}
	return upgradeBucket(ctx, js, kv, plan, want)
}

func upgradeBucket(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue, plan Plan, want jetstream.KeyValueConfig) error {
	status, err := kv.Status(ctx)
	if err != nil {
		return fmt.Errorf("backbone: look up bucket %s: %w", want.Bucket, err)
	}
	have := status.Config()
	if plan.Replicas == 0 {
		want.Replicas = have.Replicas
	}
	if have.History == want.History && have.Replicas == want.Replicas && have.TTL == want.TTL {
		return nil
	}
	have.History, have.Replicas, have.TTL = want.History, want.Replicas, want.TTL // [Rebound] bounds it
	if _, err = js.UpdateKeyValue(ctx, have); err != nil {
		return fmt.Errorf("backbone: upgrade bucket %s: %w", want.Bucket, err)
	}
	plan.Logger.Info("bucket upgraded", "bucket", want.Bucket, "replicas", want.Replicas)
	return nil
}
