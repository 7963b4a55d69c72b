package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/backbone"
)

// removeTenant ends the connections of a tenant that was removed, deletes its
// streams and has this server refuse what was issued for it.
func (n *Node) removeTenant(ctx context.Context, t *tenantPart) error {
	name := t.keys.Account().Name
	n.mu.Lock()
	delete(n.tenants, name)
	n.mu.Unlock()
	var errs []error
	removed, err := n.keys.Removed()
	if err != nil {
		return err
	}
	if n.edge != nil {
		errs = append(errs, n.edge.drop(ctx, t.keys.Account().PublicKey, removed))
	}
	errs = append(errs, t.stops.Stop(ctx), n.deleteStreams(ctx, t.keys))
	// Past that, not even a part of RCCS gets in. The account that parts are in
	// comes last: who sees a part refused knows that services are, too.
	for _, token := range ownLast(removed, t.keys.Account().PublicKey) {
		if err := n.server.UpdateAccount(token); err != nil && !errors.Is(err, backbone.ErrStale) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ownLast returns the JWTs of removed accounts with that of own at the end.
func ownLast(removed []string, own string) []string {
	var first, last []string
	for _, token := range removed {
		if claims, err := jwt.DecodeAccountClaims(token); err == nil && claims.Subject == own {
			last = append(last, token)
		} else {
			first = append(first, token)
		}
	}
	return append(first, last...)
}

func (n *Node) deleteStreams(ctx context.Context, keys *auth.Keystore) error {
	dial, err := n.dialer(keys, "edge")
	if err != nil {
		return err
	}
	nc, err := dial("remove")
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := backbone.Remove(ctx, nc, keys.Shards()); err != nil {
		return fmt.Errorf("node: streams of %s: %w", keys.Account().Name, err)
	}
	return nil
}
