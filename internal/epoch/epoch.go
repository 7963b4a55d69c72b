// Package epoch owns the word that tells whether sequences of a stream may have
// been given out twice: a string that stays the same over restarts and changes
// when the stream is made anew, is restored, or has lost its end.
//
// It stands in the stream's metadata. A stream without it has the epoch of its
// creation. Beside it stands up to where cursors are not to be trusted. All
// functions are safe for concurrent use.
package epoch

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
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
	return update(ctx, js, name, func(info *jetstream.StreamInfo) { renew(&info.Config) })
}

// RedeliverMetadata is the key of the sequence in a stream's metadata that
// [RedeliverUpTo] returns.
const RedeliverMetadata = "rccs-redeliver-up-to"

// RedeliverUpTo is the sequence up to which any message may have been sent to its
// device before, whatever the device's cursor says: a restore has brought back an
// older cursor, or the cursor is among what was damaged. In the stream of routes it
// is the last message that a restore has brought back. 0: there is none.
func RedeliverUpTo(info *jetstream.StreamInfo) uint64 {
	seq, err := strconv.ParseUint(info.Config.Metadata[RedeliverMetadata], 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// Restored reports whether [Redeliver] was called for a stream: for that of inboxes
// it is the last step of a restore.
func Restored(info *jetstream.StreamInfo) bool {
	_, ok := info.Config.Metadata[RedeliverMetadata]
	return ok
}

// Redeliver has [RedeliverUpTo] be the last sequence of a stream.
func Redeliver(ctx context.Context, js jetstream.JetStream, name string) error {
	return update(ctx, js, name, func(info *jetstream.StreamInfo) {
		info.Config.Metadata[RedeliverMetadata] = strconv.FormatUint(info.State.LastSeq, 10)
	})
}

// update changes the metadata of a stream.
func update(ctx context.Context, js jetstream.JetStream, name string, change func(*jetstream.StreamInfo)) error {
	have, err := leader.Info(ctx, js, name)
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	info := *have
	if info.Config.Metadata = maps.Clone(info.Config.Metadata); info.Config.Metadata == nil {
		info.Config.Metadata = make(map[string]string, 1)
	}
	change(&info)
	if _, err := js.UpdateStream(ctx, info.Config); err != nil {
		return fmt.Errorf("epoch: change that of stream %s: %w", name, err)
	}
	return nil
}

// renew puts a new epoch into the configuration of a stream that is to be made or
// changed. Its metadata must not be shared.
func renew(config *jetstream.StreamConfig) {
	if config.Metadata == nil {
		config.Metadata = make(map[string]string, 1)
	}
	config.Metadata[Metadata] = rand.Text()
}
