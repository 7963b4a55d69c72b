package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/auth"
)

// The number is chosen with the first keys and with each tenant, and whoever has a
// part's credential knows it. With one shard no JWT says anything of it.
func TestCredentialsSayHowManyShardsThereAre(t *testing.T) {
	t.Parallel()
	for name, shards := range map[string]int{"several": 4, "one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := auth.OpenKeystoreWith(t.TempDir(), shards)
			if err != nil {
				t.Fatal(err)
			}
			acme, err := keys.AddTenantWith("acme", shards, auth.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []*auth.Keystore{keys, acme} {
				part, err := k.IssuePart("edge")
				if err != nil {
					t.Fatal(err)
				}
				if k.Shards() != shards || part.Shards() != shards {
					t.Errorf("%s: %d shards, and %d by the credential, want %d", k.Account().Name, k.Shards(), part.Shards(), shards)
				}
				account, err := jwt.DecodeAccountClaims(k.Account().JWT)
				if err != nil {
					t.Fatal(err)
				}
				if one := shards == 1; one != (len(account.Tags) == 0) || one != (len(account.Mappings) == 0) {
					t.Errorf("%s: tags %v, mappings %v", k.Account().Name, account.Tags, account.Mappings)
				}
			}
		})
	}
	t.Run("divided anew", dividedAnew)
	if _, err := auth.OpenKeystoreWith(t.TempDir(), 65); err == nil {
		t.Error("65 shards were taken")
	}
}

// A restore changes the number, with what NATS maps by it. Revocations stay, and an
// older JWT of the account changes nothing of it.
func dividedAnew(t *testing.T) {
	t.Parallel()
	keys, err := auth.OpenKeystoreWith(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	before := keys.Account().JWT
	for _, n := range []int{3, 1} {
		account, err := keys.Divide(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, adopted := range []string{before} {
			if account, err = keys.Adopt(adopted); err != nil {
				t.Fatal(err)
			}
			claims, err := jwt.DecodeAccountClaims(account.JWT)
			if err != nil {
				t.Fatal(err)
			}
			mapped := claims.Mappings["rccs.inbox.*.*.*"]
			if one := n == 1; one != (len(claims.Tags) == 0) || one != (len(claims.Mappings) == 0) {
				t.Errorf("%d: tags %v, mappings %v", n, claims.Tags, claims.Mappings)
			} else if want := fmt.Sprintf("rccs.{{partition(%d,1)}}.inbox.", n); !one && !strings.HasPrefix(string(mapped[0].Subject), want) {
				t.Errorf("%d: mapped to %v", n, mapped)
			}
		}
	}
	if _, err := keys.Divide(0); err == nil {
		t.Error("no shards were taken")
	}
}
