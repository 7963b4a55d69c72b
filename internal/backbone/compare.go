package backbone

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is a stream, or that of a bucket, that is not as it was planned.
type Difference struct {
	Stream  string
	Missing bool
	// Changes are what [Ensure] would do, for people.
	Changes []string
}

// Compare finds what [Ensure] would create or change, and leaves it as it is.
func Compare(ctx context.Context, js jetstream.JetStream, plan Plan) ([]Difference, error) {
	plan, err := plan.withDefaults()
	if err != nil {
		return nil, err
	}
	var all []Difference
	for _, s := range plan.streams() {
		stream, err := js.Stream(ctx, s.name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			all = append(all, Difference{Stream: s.name, Missing: true})
			continue
		case err != nil:
			return all, fmt.Errorf("backbone: look up stream %s: %w", s.name, err)
		}
		have := stream.CachedInfo().Config
		want := have
		s.shape(&want)
		if changes := diff(have, want); len(changes) > 0 {
			all = append(all, Difference{Stream: s.name, Changes: changes})
		}
	}
	for _, want := range plan.buckets() {
		d, err := compareBucket(ctx, js, plan, want)
		if err != nil {
			return all, err
		}
		if d.Missing || len(d.Changes) > 0 {
			all = append(all, d)
		}
	}
	return all, nil
}

func compareBucket(ctx context.Context, js jetstream.JetStream, plan Plan, want jetstream.KeyValueConfig) (Difference, error) {
	d := Difference{Stream: "KV_" + want.Bucket}
	kv, err := js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		d.Missing = true
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("backbone: look up bucket %s: %w", want.Bucket, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return d, fmt.Errorf("backbone: look up bucket %s: %w", want.Bucket, err)
	}
	have := status.Config()
	if have.History != bucketHistory {
		d.Changes = append(d.Changes, fmt.Sprintf("History from %d to %d", have.History, bucketHistory))
	}
	if plan.Replicas != 0 && have.Replicas != plan.Replicas {
		d.Changes = append(d.Changes, fmt.Sprintf("Replicas from %d to %d", have.Replicas, plan.Replicas))
	}
	if have.TTL != want.TTL {
		d.Changes = append(d.Changes, fmt.Sprintf("TTL from %s to %s", have.TTL, want.TTL))
	}
	return d, nil
}

// diff lists the fields in which two configurations differ, for people.
func diff(have, want jetstream.StreamConfig) []string {
	var changes []string
	// The order in which the server lists subjects has no meaning.
	have.Subjects, want.Subjects = slices.Sorted(slices.Values(have.Subjects)), slices.Sorted(slices.Values(want.Subjects))
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		if a, b := h.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			changes = append(changes, fmt.Sprintf("%s from %v to %v", h.Type().Field(i).Name, a, b))
		}
	}
	return changes
}
