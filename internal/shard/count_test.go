package shard_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/shard"
)

func TestACredentialForAnotherNumberOfShardsIsTold(t *testing.T) {
	t.Parallel()
	counts := []int{1, 2, 4, 8, shard.Max}
	for _, has := range counts {
		names := append(backbone.StreamsOf(has), "OF_A_SERVICE_9")
		for _, named := range counts {
			err := shard.Compare(names, named)
			other, told := errors.AsType[*shard.CountError](err)
			if told != (has != named) {
				t.Errorf("for %d shards of %d: %v", named, has, err)
			}
			if told && (other.Has != has || other.Named != named) {
				t.Errorf("for %d shards of %d: told %+v", named, has, other)
			}
		}
	}
}

// A tenant whose streams are being made, or of which one was removed, is not taken
// for one with fewer shards.
func TestStreamsThatAreMissingDoNotTellHowManyShardsThereAre(t *testing.T) {
	t.Parallel()
	for _, has := range []int{1, 4} {
		all := backbone.StreamsOf(has)
		plain := func(name string) string { _, plain := shard.Named(name, has); return plain }
		last := 0
		for i, name := range all {
			if !shard.Divided(plain(name)) {
				continue
			}
			last = i
			if err := shard.Compare(slices.Delete(slices.Clone(all), i, i+1), 8); err != nil {
				t.Errorf("%d shards without %s: %v", has, name, err)
			}
		}
		for n := range last { // they are made in this order
			if err := shard.Compare(all[:n], 8); err != nil {
				t.Errorf("the first %d streams of %d shards: %v", n, has, err)
			}
		}
	}
}
