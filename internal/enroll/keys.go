package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
	"github.com/rccs-io/rccs/subjects"
)

// maxKeys is how many keys of one device may be good at a time.
const maxKeys = 16

// Why a key is not recorded.
var (
	errReplayed   = errors.New("enroll: the request, or a later one of this key, was accepted before")
	errUnknownKey = errors.New("enroll: the key is not one that was enrolled for this device, or it was not renewed in time")
	errTooMany    = errors.New("enroll: too many keys are enrolled for this device")
)

// Key is one that a device made itself.
type Key struct {
	PublicKey string    `json:"key"`
	Type      string    `json:"type,omitempty"`
	Enrolled  time.Time `json:"enrolled"`
	// Last is the time that the last request says that was accepted.
	Last time.Time `json:"last"`
	// Until is when the key can be renewed no more.
	Until time.Time `json:"until"`
}

type record struct {
	Keys []Key `json:"keys"`
}

// keys are the keys of a tenant's devices.
type keys struct {
	kv  jetstream.KeyValue
	now func() time.Time
}

// Keys are those that were enrolled for a device, or for all of a user's where
// none is named, and may still be in use.
func Keys(ctx context.Context, js jetstream.JetStream, user subjects.UserID, device subjects.DeviceID) ([]string, error) {
	kv, err := js.KeyValue(ctx, layout.BucketEnrolled)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil // a server of before there was enrolment
	}
	if err != nil {
		return nil, fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
	}
	filter := layout.UserEntries(user)
	if device != "" {
		filter = layout.DeviceEntry(subjects.Address{User: user, Device: device}.Key())
	}
	var all []string
	err = each(ctx, kv, filter, func(r record) {
		for _, key := range r.Keys {
			all = append(all, key.PublicKey)
		}
	})
	return all, err
}

// each hands out what is recorded of some devices.
func each(ctx context.Context, kv jetstream.KeyValue, filter string, found func(record)) error {
	watch, err := kv.Watch(ctx, filter, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case entry := <-watch.Updates():
			if entry == nil { // that was all
				return nil
			}
			var r record
			if err := json.Unmarshal(entry.Value(), &r); err != nil {
				return fmt.Errorf("enroll: what is recorded as %s: %w", entry.Key(), err)
			}
			found(r)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// good is how many devices of a user have a key that may be renewed.
func (k *keys) good(ctx context.Context, user subjects.UserID) (n int, err error) {
	now := k.now()
	err = each(ctx, k.kv, layout.UserEntries(user), func(r record) {
		if slices.ContainsFunc(r.Keys, func(key Key) bool { return !now.After(key.Until) }) {
			n++
		}
	})
	return n, err
}

// read returns what is recorded of a device, and the revision to change it by.
func (k *keys) read(ctx context.Context, a subjects.Address) (r record, revision uint64, err error) {
	stored, err := k.kv.Get(ctx, layout.DeviceEntry(a.Key()))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return r, 0, nil
	case err != nil:
		return r, 0, fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
	}
	if err := json.Unmarshal(stored.Value(), &r); err != nil {
		return r, 0, fmt.Errorf("enroll: what is recorded of %s: %w", a, err)
	}
	return r, stored.Revision(), nil
}

// change does change to what is recorded, again when it was changed meanwhile.
func (k *keys) change(ctx context.Context, a subjects.Address, change func(*record) error) error {
	for {
		r, revision, err := k.read(ctx, a)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("enroll: %w", err)
		}
		entry := layout.DeviceEntry(a.Key())
		if revision == 0 {
			_, err = k.kv.Create(ctx, entry, value)
		} else {
			_, err = k.kv.Update(ctx, entry, value, revision)
		}
		switch {
		case err == nil:
			return nil
		case !storeerr.Lost(err):
			return fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// add records a key that is about to be signed for, or that it is signed for
// again. One that has ended is forgotten: it was kept for as long as a token
// of it may be good. may, if there is one, looks at what is recorded before.
func (k *keys) add(ctx context.Context, a subjects.Address, key Key, may func(*record) error) error {
	return k.change(ctx, a, func(r *record) error {
		if may != nil {
			if err := may(r); err != nil {
				return err
			}
		}
		r.Keys = slices.DeleteFunc(r.Keys, func(old Key) bool { return old.PublicKey != key.PublicKey && k.now().After(old.Until) })
		i := slices.IndexFunc(r.Keys, func(old Key) bool { return old.PublicKey == key.PublicKey })
		switch {
		case i < 0 && len(r.Keys) >= maxKeys:
			return errTooMany
		case i < 0:
			r.Keys = append(r.Keys, key)
		case !r.Keys[i].Last.Before(key.Last):
			return errReplayed
		default:
			r.Keys[i] = key
		}
		return nil
	})
}

// renew records that a key is signed for again, and returns it.
func (k *keys) renew(ctx context.Context, a subjects.Address, publicKey string, at, until time.Time) (Key, error) {
	var renewed Key
	err := k.change(ctx, a, func(r *record) error {
		i := slices.IndexFunc(r.Keys, func(key Key) bool { return key.PublicKey == publicKey })
		switch {
		case i < 0 || k.now().After(r.Keys[i].Until):
			return errUnknownKey
		case !r.Keys[i].Last.Before(at):
			return errReplayed
		}
		r.Keys[i].Last, r.Keys[i].Until = at, until
		renewed = r.Keys[i]
		return nil
	})
	return renewed, err
}
