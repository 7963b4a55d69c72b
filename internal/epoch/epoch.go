// Package epoch owns the word that tells whether sequences of a stream may have
// been given out twice: a string that stays the same over restarts and changes
// when the stream is made anew, is restored, or has lost its end.
//
// It stands in the stream's metadata. A stream without it has the epoch of its
// creation. All functions are safe for concurrent use.
package epoch

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// Metadata is the key of the epoch in a stream's metadata.
const Metadata = "rccs-epoch"

// Of is the epoch of a stream.
func Of(info *jetstream.StreamInfo) string {
	if e := info.Config.Metadata[Metadata]; e != "" {
		return e
	}
	return strconv.FormatInt(info.Created.UnixNano(), 36)
}

// Renew gives a stream a new epoch: sequences that it gave out may come again.
func Renew(ctx context.Context, js jetstream.JetStream, name string) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("epoch: look up stream %s: %w", name, err)
	}
	config := stream.CachedInfo().Config
	config.Metadata = maps.Clone(config.Metadata)
	Set(&config)
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("epoch: renew that of stream %s: %w", name, err)
	}
	return nil
}

// Set puts a new epoch into the configuration of a stream that is to be made or
// changed. Its metadata must not be shared.
func Set(config *jetstream.StreamConfig) {
	if config.Metadata == nil {
		config.Metadata = make(map[string]string, 1)
	}
	config.Metadata[Metadata] = rand.Text()
}
