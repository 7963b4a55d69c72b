package node

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/subjects"
)

// startEnrolment starts what the coordinator signs devices' tokens with. It
// has a connection of its own, and hears of revocations.
func (n *Node) startEnrolment(ctx context.Context, t *tenantPart, dial dialer) (*enroll.Service, error) {
	nc, err := dial("enrolment")
	if err != nil {
		return nil, err
	}
	t.stops.AddFunc(nc.Close)
	verifier, err := n.followRevocations(ctx, t, nc)
	if err != nil {
		return nil, err
	}
	t.revoked = func(userKey string, issued time.Time) bool {
		return verifier.RevokedKey(t.keys.Account().PublicKey, userKey, issued)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	account := t.keys.Account().PublicKey
	tokens := n.opts.Enrolment.Tokens
	if t.keys.Account().Name != auth.DefaultTenant {
		tokens = nil // its holder would choose the tenant
	}
	return enroll.New(ctx, enroll.Options{
		JetStream: js, Signer: t.keys, Logger: n.opts.Logger, Life: n.opts.Enrolment.Life, RenewFor: n.opts.Enrolment.RenewFor,
		Tokens: tokens, Tenant: t.keys.Account().Name, Shards: t.keys.Shards(),
		Revoked: func(a subjects.Address, publicKey string, issued time.Time) bool {
			return verifier.Revoked(auth.Identity{Account: account, Address: a, UserKey: publicKey}, issued)
		},
	})
}

// followRevocations returns when the verifier knows what is stored.
func (n *Node) followRevocations(ctx context.Context, t *tenantPart, nc *nats.Conn) (*auth.Verifier, error) {
	verifier, err := auth.NewVerifier(t.keys.Account().JWT)
	if err != nil {
		return nil, err
	}
	account, err := followAccount(nc, verifier, n.opts.Logger, func(token string) {
		n.adopt(t.keys, token)
		t.revocations.Set()
	})
	if err != nil {
		return nil, err
	}
	if err := account.Start(ctx); err != nil {
		return nil, err
	}
	t.stops.Add(account.Stop)
	return verifier, nil
}
