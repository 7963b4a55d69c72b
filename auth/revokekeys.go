package auth

import (
	"time"

	"github.com/nats-io/jwt/v2"
)

// forGood is after everything.
var forGood = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// RevokeKeys ends keys that devices made themselves, see
// [Keystore.EnrollDevice], and returns the tenant as [Revoke] does. They end for
// good: a device that is enrolled again makes a new one, and a renewal that is
// under way gains nothing.
func RevokeKeys(dir string, keys ...string) (Account, error) {
	return changeTenant(dir, func(_ *Keystore, claims *jwt.AccountClaims) error {
		for _, key := range keys {
			claims.RevokeAt(key, forGood)
		}
		return nil
	})
}

// RestoreKeys takes [RevokeKeys] back.
func RestoreKeys(dir string, keys ...string) (Account, error) {
	return changeTenant(dir, func(_ *Keystore, claims *jwt.AccountClaims) error {
		for _, key := range keys {
			claims.ClearRevocation(key)
		}
		return nil
	})
}
