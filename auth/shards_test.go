package auth_test

import (
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
	if _, err := auth.OpenKeystoreWith(t.TempDir(), 65); err == nil {
		t.Error("65 shards were taken")
	}
}
