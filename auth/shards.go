package auth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/shard"
)

// tagShards is before the number of shards in the tags of a tenant's JWT, and of
// those of its parts; without the tag it is 1.
const tagShards = "rccs-shards:"

// setShards divides a new tenant. NATS finds the shard of what services publish by
// the account's mappings.
func setShards(tenant *jwt.AccountClaims, n int) {
	if n <= 1 {
		return
	}
	if tenant.Mappings == nil { // as in a JWT that was decoded
		tenant.Mappings = jwt.Mapping{}
	}
	tenant.Tags.Add(tagShards + strconv.Itoa(n))
	for from, to := range shard.Mappings(n) {
		tenant.AddMapping(jwt.Subject(from), jwt.WeightedMapping{Subject: jwt.Subject(to)})
	}
}

// Divide changes how many shards the tenant has. What is stored must be divided anew
// with it, and credentials of parts that were issued before name the number that it
// had: it is for a restore.
func (k *Keystore) Divide(n int) (Account, error) {
	if err := shard.Check(n); err != nil {
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	return k.change(func(tenant *jwt.AccountClaims) error {
		for from := range shard.Mappings(shardsIn(tenant.Tags)) {
			delete(tenant.Mappings, jwt.Subject(from))
		}
		tenant.Tags = slices.DeleteFunc(tenant.Tags, func(tag string) bool { return strings.HasPrefix(tag, tagShards) })
		setShards(tenant, n)
		return nil
	})
}

// shardsIn returns the number of shards that the tags of a JWT tell.
func shardsIn(tags jwt.TagList) int {
	for _, tag := range tags {
		if text, ok := strings.CutPrefix(tag, tagShards); ok {
			if n, err := strconv.Atoi(text); err == nil && shard.Check(n) == nil {
				return n
			}
		}
	}
	return 1
}

// Shards returns how many shards the tenant has.
func (k *Keystore) Shards() int {
	claims, err := jwt.DecodeAccountClaims(k.tenant.JWT)
	if err != nil {
		return 1 // load has decoded it
	}
	return shardsIn(claims.Tags)
}

// CheckShards returns an error that names the way out if the tenant does not have
// so many shards. 0 is any number.
func (k *Keystore) CheckShards(wanted int) error {
	if have := k.Shards(); wanted != 0 && wanted != have {
		return fmt.Errorf("the tenant %s was made with --shards %d, and %d are asked for: leave --shards out, or divide its users anew by a backup and 'rccs restore --shards %d'",
			k.tenant.Name, have, wanted, wanted)
	}
	return nil
}

// shardsTags has the credential of a part say how many shards the tenant has: who
// uses it need not ask.
func (k *Keystore) shardsTags() []string {
	if n := k.Shards(); n > 1 {
		return []string{tagShards + strconv.Itoa(n)}
	}
	return nil
}

// Shards returns how many shards the tenant has, as the credential of a part says.
func (c Credential) Shards() int { return shardsOf(c.JWT) }

// ShardsOf is [Credential.Shards] of the credential that a connection was made with.
func ShardsOf(nc *nats.Conn) int {
	if nc.Opts.UserJWT == nil {
		return 1
	}
	token, err := nc.Opts.UserJWT()
	if err != nil {
		return 1 // it cannot connect again, either
	}
	return shardsOf(token)
}

func shardsOf(token string) int {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return 1 // not issued by us
	}
	return shardsIn(claims.Tags)
}
