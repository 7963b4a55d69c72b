package auth

import (
	"crypto/subtle"
	"hash/maphash"
	"sync"

	"github.com/nats-io/jwt/v2"
)

// maxDecoded bounds how many services' tokens a [Verifier] remembers.
const maxDecoded = 1024

// decodedTokens remembers what services' tokens hold. A service shows the same
// token with each request, and to check its signature costs more than all else
// that a small request does. What a token holds, and that its issuer signed it,
// never changes; whether it counts does, and is for the caller to check each
// time.
type decodedTokens struct {
	mu   sync.Mutex
	seed maphash.Seed
	all  map[uint64]decodedToken // by a hash that nobody outside can know
}

type decodedToken struct {
	token  string
	claims *jwt.UserClaims // never changed
}

// decode is [decode] for a token that may have been seen before. remember is
// to be called once the token has counted, so that nobody's worthless tokens
// take the place of others.
func (d *decodedTokens) decode(token string) (claims *jwt.UserClaims, remember func(), err error) {
	if len(token) > maxToken { // no need to look for it
		_, err := decode(token)
		return nil, nil, err
	}
	d.mu.Lock()
	if d.all == nil {
		d.all, d.seed = make(map[uint64]decodedToken), maphash.MakeSeed()
	}
	key := maphash.String(d.seed, token)
	known := d.all[key]
	d.mu.Unlock()
	if known.claims != nil && subtle.ConstantTimeCompare([]byte(known.token), []byte(token)) == 1 {
		return known.claims, func() {}, nil
	}
	if claims, err = decode(token); err != nil {
		return nil, nil, err
	}
	return claims, func() { d.add(key, decodedToken{token, claims}) }, nil
}

// add forgets any other when there are too many.
func (d *decodedTokens) add(key uint64, t decodedToken) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for other := range d.all {
		if len(d.all) < maxDecoded {
			break
		}
		delete(d.all, other)
	}
	d.all[key] = t
}
