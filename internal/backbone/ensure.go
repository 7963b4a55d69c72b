package backbone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// Ensure creates the streams and buckets of the account that js belongs to,
// and upgrades those whose configuration differs from the plan. What is stored
// stays, except what a smaller MaxAge or MaxPerLane no longer allows. Settings
// that RCCS does not care for, such as placement, are left as they are. Any
// number of processes may call it at once. When the server cannot change a
// setting of an existing stream, Ensure leaves that stream alone and says
// which setting it is.
func Ensure(ctx context.Context, js jetstream.JetStream, plan Plan) error {
	plan, err := plan.withDefaults()
	if err != nil {
		return err
	}
	for _, s := range plan.streams() {
		if err := ensureStream(ctx, js, plan, s.name, s.shape); err != nil {
			return err
		}
	}
	for _, want := range plan.buckets() {
		if err := ensureBucket(ctx, js, plan, want); err != nil {
			return err
		}
	}
	short, err := Rebound(ctx, js, plan)
	plan.tellShort(short)
	return err
}

// ensureStream creates a stream, or changes it to what shape makes of it. See
// [planned].
func ensureStream(ctx context.Context, js jetstream.JetStream, plan Plan, name string, shape func(*jetstream.StreamConfig)) error {
	// Not of a server that lags: its configuration may be older, and would be stored.
	info, err := leader.Info(ctx, js, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want := jetstream.StreamConfig{Name: name}
		shape(&want)
		_, err = js.CreateStream(ctx, want)
		if storeerr.NoRoom(err) && want.MaxBytes > 0 {
			plan.Logger.Warn("the tenants' shares of the store do not fit: a stream is without its bound", "stream", name, "bytes", want.MaxBytes)
			want.MaxBytes = -1
			_, err = js.CreateStream(ctx, want)
		}
		if err == nil {
			plan.Logger.Debug("stream created", "stream", name, "replicas", want.Replicas)
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("backbone: create stream %s: %w", name, err)
		}
		info, err = leader.Info(ctx, js, name) // another process was faster
	}
	if err != nil {
		return fmt.Errorf("backbone: %w", err)
	}
	have := info.Config
	want := have
	shape(&want)
	if plan.StoreBytes > 0 { // [Rebound] changes them, in an order that fits
		want.MaxBytes, want.Discard = have.MaxBytes, have.Discard
	}
	return upgrade(ctx, js, plan, have, want)
}

func upgrade(ctx context.Context, js jetstream.JetStream, plan Plan, have, want jetstream.StreamConfig) error {
	changes := diff(have, want)
	if len(changes) == 0 {
		return nil
	}
	list := strings.Join(changes, ", ")
	if _, err := js.UpdateStream(ctx, want); err != nil {
		if _, refused := errors.AsType[*jetstream.APIError](err); refused {
			return fmt.Errorf("backbone: stream %s has a configuration that the server does not change (%s): %w;"+
				" it was left as it is: plan what it has, or back it up with `nats stream backup` and remove it",
				want.Name, list, err)
		}
		return fmt.Errorf("backbone: upgrade stream %s (%s): %w", want.Name, list, err)
	}
	plan.Logger.Info("stream upgraded", "stream", want.Name, "changes", list)
	return nil
}

// Remove deletes the streams and buckets of the account, with all that is in
// them.
func Remove(ctx context.Context, nc *nats.Conn, shards int) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("backbone: %w", err)
	}
	names := StreamsOf(shards)
	slices.Reverse(names) // what sources another one before that
	for _, name := range names {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("backbone: delete stream %s: %w", name, err)
		}
	}
	return nil
}
