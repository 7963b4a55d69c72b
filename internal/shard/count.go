package shard

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// CountError says that a credential, or a directory of keys, names another number of
// shards than the tenant has, as after a restore that has divided its users anew.
// Whoever goes by it takes users for those of other shards.
type CountError struct{ Named, Has int }

// Error implements error.
func (e *CountError) Error() string {
	return fmt.Sprintf("the credential is for %s, and the tenant has %s", counted(e.Named), counted(e.Has))
}

func counted(n int) string {
	if n == 1 {
		return "1 shard"
	}
	return fmt.Sprintf("%d shards", n)
}

// Ask asks for the streams of a tenant. It returns a [CountError] if they are those of
// another number of shards than named.
func Ask(ctx context.Context, js jetstream.JetStream, named int) error {
	var names []string
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list the streams: %w", err)
	}
	return Compare(names, named)
}

// Compare is [Ask] for the names of all streams of the tenant. While they are being
// made, or when one is missing, they do not tell how many shards there are, and it
// returns nil.
func Compare(names []string, named int) error {
	if has := count(names); has != 0 && has != max(named, 1) {
		return &CountError{Named: max(named, 1), Has: has}
	}
	return nil
}

// count returns how many shards the streams are of; 0: they do not tell.
func count(names []string) int {
	whole := func(s Shard) (all, some bool) {
		all = true
		for _, name := range streams {
			there := slices.Contains(names, s.Stream(name))
			all, some = all && there, some || there
		}
		for _, bucket := range buckets {
			there := slices.Contains(names, s.Stream(kvStream+bucket))
			all, some = all && there, some || there
		}
		return all, some
	}
	n := 0
	for _, s := range All(Max) {
		switch all, some := whole(s); {
		case all && s.N() == n:
			n++
		case some:
			return 0
		}
	}
	if all, _ := whole(Only); all && n == 0 {
		return 1
	}
	if n == 1 {
		return 0 // the others are not there yet
	}
	return n
}
