package auth

import (
	"crypto/ed25519"

	"github.com/nats-io/nkeys"
)

// signer is a key pair that keeps its keys. The one it wraps computes them
// from the seed again for every public key and every signature, which is most
// of what it costs to issue a credential.
type signer struct {
	nkeys.KeyPair
	public  string
	private ed25519.PrivateKey
}

func newSigner(pair nkeys.KeyPair) (*signer, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, err
	}
	return &signer{KeyPair: pair, public: public, private: ed25519.NewKeyFromSeed(raw)}, nil
}

// PublicKey implements [nkeys.KeyPair].
func (s *signer) PublicKey() (string, error) { return s.public, nil }

// Sign implements [nkeys.KeyPair].
func (s *signer) Sign(input []byte) ([]byte, error) { return ed25519.Sign(s.private, input), nil }
