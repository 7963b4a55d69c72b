package main

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/subjects"
)

// ownKeys are those that a user's devices made themselves, or one device if it
// is named: servers record them.
func ownKeys(ctx context.Context, keys *auth.Keystore, dial dialFunc, a subjects.Address) ([]string, error) {
	part, err := keys.IssuePart("revoke")
	if err != nil {
		return nil, err
	}
	nc, err := dial(part)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return enroll.Keys(ctx, js, a.User, a.Device)
}

// changeOwn does change, [auth.RevokeKeys] or its inverse, to the own keys of
// what a revocation is of. The account stays as it is when there are none.
func changeOwn(
	ctx context.Context, data string, keys *auth.Keystore, dial dialFunc, account auth.Account, r auth.Revocation,
	change func(dir string, keys ...string) (auth.Account, error),
) (auth.Account, error) {
	var of subjects.Address
	switch r.Kind {
	case auth.RevokedDevice:
		var err error
		if of, err = subjects.ParseAddress(r.Name); err != nil {
			return account, err
		}
	case auth.RevokedUser:
		of.User = subjects.UserID(r.Name)
	case auth.RevokedService, auth.RevokedAll: // all is of all keys
		return account, nil
	}
	own, err := ownKeys(ctx, keys, dial, of)
	if err != nil || len(own) == 0 {
		return account, err
	}
	return change(data, own...)
}
