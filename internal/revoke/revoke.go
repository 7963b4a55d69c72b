package revoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/audit"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
)

// UntoldError says that a change was made in the keys, and why servers are not
// known to apply it yet.
type UntoldError struct{ Err error }

func (e *UntoldError) Error() string { return e.Err.Error() }
func (e *UntoldError) Unwrap() error { return e.Err }

// Installation is where credentials are ended.
type Installation struct {
	// Keys are the installation's and the tenant's.
	Keys *auth.Keystore
	// Dial connects to NATS with a credential. Its reply subjects must lie
	// where no service can listen.
	Dial func(auth.Credential) (*nats.Conn, error)
}

// Revoke ends credentials: r, and with it the keys of all devices that fall under
// it. by is the record of it. An error that is an [*UntoldError] comes after the
// change was made in the keys.
func (i *Installation) Revoke(ctx context.Context, r auth.Revocation, by audit.Record) error {
	var unknown error // some keys are not known: those that are end all the same
	var own time.Time // when the credential ends with which it is done, and recorded
	if r.Kind == auth.RevokedAll {
		own = r.At
	}
	err := i.apply(ctx, by, own, func(t *tenant, _ error) (auth.Account, []subjects.Address, error) {
		var k known
		k, unknown = i.known(ctx, t, r)
		account, err := i.Keys.RevokeMany(r, k.keys)
		return account, k.devices, err
	})
	if err == nil && unknown != nil {
		return &UntoldError{unknown}
	}
	return err
}

// Undo takes a revocation back. Errors are as those of Revoke.
func (i *Installation) Undo(ctx context.Context, r auth.Revocation, by audit.Record) error {
	return i.apply(ctx, by, time.Time{}, func(t *tenant, unreached error) (auth.Account, []subjects.Address, error) {
		if unreached != nil && r.Kind == auth.RevokedUser {
			return auth.Account{}, nil, fmt.Errorf("which devices the user has is asked of the servers: %w", unreached)
		}
		k, err := i.known(ctx, t, r)
		if err != nil {
			return auth.Account{}, nil, err
		}
		if k.keys.Own, err = i.freed(ctx, t, r, k.keys.Own); err != nil {
			return auth.Account{}, nil, err
		}
		account, err := i.Keys.Restore(r, k.keys)
		return account, nil, err
	})
}

// freed are those of the keys that devices made themselves that no other
// revocation ends, once r is taken back.
func (i *Installation) freed(ctx context.Context, t *tenant, r auth.Revocation, own []string) ([]string, error) {
	if len(own) == 0 || t == nil {
		return own, nil
	}
	standing, err := i.Keys.Revocations()
	if err != nil {
		return nil, err
	}
	user, _, _ := strings.Cut(r.Name, "/")
	for _, other := range standing {
		of, device, _ := strings.Cut(other.Name, "/")
		switch {
		case r.Kind == auth.RevokedDevice && other.Kind == auth.RevokedUser && other.Name == user:
			return nil, nil
		case r.Kind == auth.RevokedUser && other.Kind == auth.RevokedDevice && of == user:
			kept, err := enroll.Keys(ctx, t.js, subjects.UserID(of), subjects.DeviceID(device))
			if err != nil {
				return nil, err
			}
			own = slices.DeleteFunc(own, func(key string) bool { return slices.Contains(kept, key) })
		}
	}
	return own, nil
}

// Change changes the tenant's account in another way. Errors are as those of
// Revoke.
func (i *Installation) Change(ctx context.Context, by audit.Record, change func() (auth.Account, error)) error {
	return i.apply(ctx, by, time.Time{}, func(*tenant, error) (auth.Account, []subjects.Address, error) {
		account, err := change()
		return account, nil, err
	})
}

// apply makes a change in the keys, and tells servers of it, and services of the
// devices. change gets a nil tenant, and why, when no server can be reached. own
// is not zero when the change ends all credentials issued until then, that of
// apply's own connection among them.
func (i *Installation) apply(
	ctx context.Context, by audit.Record, own time.Time, change func(t *tenant, unreached error) (auth.Account, []subjects.Address, error),
) error {
	// Credentials end in the keys whether or not anybody can be told.
	untold := func(why error) error {
		if _, _, err := change(nil, why); err != nil {
			return err
		}
		return &UntoldError{why}
	}
	t, err := i.reach()
	if err != nil {
		return untold(err)
	}
	defer func() { t.nc.Close() }()
	recorded := false
	last := func() jetstream.JetStream { return t.js }
	err = audit.DoAndEnd(ctx, t.js, last, by, func() error {
		recorded = true
		if _, err := Reconcile(ctx, t.js, i.Keys, i.Keys.Account()); err != nil {
			return untold(err)
		}
		account, devices, err := change(t, nil)
		if err != nil {
			return err
		}
		// A server that reads the keys may end this connection before anybody is told.
		if !own.IsZero() {
			again, err := i.reachAfter(ctx, own)
			if err != nil {
				return &UntoldError{err}
			}
			t.nc.Close()
			t = again
		}
		if err := t.tell(ctx, i, account, devices); err != nil {
			return &UntoldError{err}
		}
		return nil
	})
	if !recorded {
		return untold(err)
	}
	return err
}

// tenant is a connection in the tenant's account.
type tenant struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	shards int
}

// reachAfter connects with a credential that is newer than own. Credentials count
// in seconds.
func (i *Installation) reachAfter(ctx context.Context, own time.Time) (*tenant, error) {
	wait := time.NewTimer(time.Until(own.Truncate(time.Second).Add(time.Second)))
	defer wait.Stop()
	select {
	case <-wait.C:
		return i.reach()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reach connects in the tenant's account.
func (i *Installation) reach() (t *tenant, err error) {
	part, err := i.Keys.IssuePart("revoke")
	if err != nil {
		return nil, err
	}
	nc, err := i.Dial(part)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return &tenant{nc, js, i.Keys.Shards()}, nil
}

// known are the devices that are registered and fall under a revocation, and
// the keys of credentials that do.
type known struct {
	devices []subjects.Address
	keys    auth.Keys
}

// known is what is known here, and where the tenant can be reached, there.
func (i *Installation) known(ctx context.Context, t *tenant, r auth.Revocation) (k known, err error) {
	if r.Kind == auth.RevokedUser {
		if k.keys.Derived, err = i.Keys.IssuedTo(subjects.UserID(r.Name)); err != nil {
			return k, err
		}
	}
	if t == nil {
		return k, nil
	}
	switch r.Kind {
	case auth.RevokedService, auth.RevokedAll: // all is of all keys
		return k, nil
	case auth.RevokedDevice:
		user, device, _ := strings.Cut(r.Name, "/") // perhaps one that only an earlier version issued
		a := subjects.Address{User: subjects.UserID(user), Device: subjects.DeviceID(device)}
		k.devices = append(k.devices, a)
		k.keys.Own, err = enroll.Keys(ctx, t.js, a.User, a.Device)
		return k, err
	case auth.RevokedUser:
	}
	user := subjects.UserID(r.Name)
	list, err := t.registered(ctx, subjects.Scope{User: user})
	if err != nil {
		return k, err
	}
	for _, a := range list {
		key, err := i.Keys.DeviceKey(a)
		if err != nil {
			return k, err
		}
		k.devices, k.keys.Derived = append(k.devices, a), append(k.keys.Derived, key)
	}
	k.keys.Own, err = enroll.Keys(ctx, t.js, user, "")
	return k, err
}

// registered are the devices of a scope that have registered, or enrolled.
func (t *tenant) registered(ctx context.Context, of subjects.Scope) ([]subjects.Address, error) {
	known := map[subjects.Address]bool{}
	own := shard.At(shard.OfUser(of.User, t.shards), t.shards)
	for _, in := range []struct {
		bucket, filter string
		parse          func(subject string) (subjects.Key, bool)
	}{
		{layout.BucketDevices, layout.Devices(of), layout.ParseDeviceSubject},
		{layout.BucketEnrolled, layout.Enrolled(of), layout.ParseEnrolledSubject},
	} {
		stream, err := t.js.Stream(ctx, own.Stream("KV_"+in.bucket))
		if errors.Is(err, jetstream.ErrStreamNotFound) && in.bucket == layout.BucketEnrolled {
			continue // of a version before there was enrolment
		}
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", in.bucket, err)
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(own.Stored(in.filter)))
		if err != nil {
			return nil, fmt.Errorf("devices of %s: %w", of, err)
		}
		for subject := range info.State.Subjects {
			key, ok := in.parse(own.Plain(subject))
			if !ok {
				continue
			}
			if a, err := key.Address(); err == nil {
				known[a] = true
			}
		}
	}
	return slices.Collect(maps.Keys(known)), nil
}

// tell hands a changed account JWT to the edges, by the bucket, and to the NATS
// servers, which drop whom it revokes, and tells services.
func (t *tenant) tell(ctx context.Context, i *Installation, account auth.Account, devices []subjects.Address) error {
	account, err := Reconcile(ctx, t.js, i.Keys, account)
	if err != nil {
		return err
	}
	if err := i.tellServers(ctx, account); err != nil {
		return err
	}
	if err := i.Keys.Told(account.JWT); err != nil {
		return err
	}
	for _, address := range devices {
		body, err := json.Marshal(map[string]string{
			"kind": subjects.EventRevoked, "user": string(address.User), "device": string(address.Device),
			"at": time.Now().UTC().Format(time.RFC3339Nano),
		})
		if err != nil {
			return err
		}
		if _, err := t.js.Publish(ctx, subjects.Event(address.Key(), subjects.EventRevoked), body); err != nil {
			return err
		}
	}
	return nil
}

// Tell hands the tenant's accounts, as they are in the keys, to the NATS servers.
func (i *Installation) Tell(ctx context.Context) error { return i.tellServers(ctx, i.Keys.Account()) }

// tellServers hands the tenant's JWT, and that of its services, to all NATS
// servers that can be reached.
func (i *Installation) tellServers(ctx context.Context, account auth.Account) error {
	system, err := i.Keys.IssueSystem("revoke")
	if err != nil {
		return err
	}
	nc, err := i.Dial(system)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, token := range []string{account.JWT, account.Services} {
		answer, err := nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(token))
		if err != nil {
			return fmt.Errorf("account not updated: %w", err)
		}
		var result struct{ Error *struct{ Description string } }
		if err := json.Unmarshal(answer.Data, &result); err != nil {
			return fmt.Errorf("account not updated: %w", err)
		}
		if result.Error != nil {
			return errors.New("account not updated: " + result.Error.Description)
		}
	}
	return nil
}
