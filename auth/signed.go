package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"

	"github.com/nats-io/jwt/v2"
)

// maxSigned bounds how many devices' tokens a [Verifier] remembers: two
// generations of so many, some 30 bytes each.
const maxSigned = 1 << 17

// signedTokens remembers which devices' tokens were signed by their issuers. When
// devices come back all at once, to check that again is the largest part of what
// each costs. It keeps no token and nothing that one says: a token is read anew
// each time, and whether it counts is for the caller to check.
type signedTokens struct {
	mu  sync.Mutex
	key [sha256.BlockSize]byte // of this process, and random; zero: not made yet
	// What is used is in recent. When that is full, it becomes older, and what
	// was older is forgotten.
	recent, older map[tokenSum]struct{}
}

// tokenSum is the beginning of a token's hash with the key, which nobody knows:
// no other token is found that has the same.
type tokenSum [16]byte

// decode is [decode], which does not check a signature again. remember is to be
// called once the token has counted, so that nobody's worthless tokens take the
// place of others.
func (s *signedTokens) decode(token string) (claims *jwt.UserClaims, remember func(), err error) {
	if len(token) <= maxToken { // otherwise there is no need to look for it
		sum := s.sum(token)
		if s.has(sum) {
			if claims, err = decodeSigned(token); err == nil {
				return claims, func() {}, nil
			}
		}
		remember = func() { s.add(sum) }
	}
	claims, err = decode(token)
	return claims, remember, err
}

func (s *signedTokens) sum(token string) (sum tokenSum) {
	s.mu.Lock()
	if s.recent == nil {
		_, _ = rand.Read(s.key[:]) // never fails
		s.recent = make(map[tokenSum]struct{})
	}
	s.mu.Unlock()
	text := make([]byte, 0, 1024) // on the stack
	text = append(append(text, s.key[:]...), token...)
	all := sha256.Sum256(text)
	copy(sum[:], all[:])
	return sum
}

func (s *signedTokens) has(sum tokenSum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.recent[sum]; ok {
		return true
	}
	_, ok := s.older[sum]
	if ok {
		s.addLocked(sum)
	}
	return ok
}

func (s *signedTokens) add(sum tokenSum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(sum)
}

func (s *signedTokens) addLocked(sum tokenSum) {
	if len(s.recent) >= maxSigned {
		s.recent, s.older = make(map[tokenSum]struct{}), s.recent
	}
	s.recent[sum] = struct{}{}
}

// decodeSigned reads a token that [decode] has accepted before.
func decodeSigned(token string) (*jwt.UserClaims, error) {
	_, body, _ := strings.Cut(token, ".")
	body, _, _ = strings.Cut(body, ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, err
	}
	claims := new(jwt.UserClaims)
	return claims, json.Unmarshal(text, claims)
}
