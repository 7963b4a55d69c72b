package storecheck

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// errBlockKey is wrapped by the error about a block whose key is spoilt.
var errBlockKey = errors.New("the key of the block cannot be read")

// crypt encrypts or decrypts a block in place. sealedKey is the content of its
// key file.
func crypt(buf, sealedKey []byte, account, stream string, index int, keys ...string) error {
	for _, key := range keys {
		if key == "" {
			continue
		}
		h := hmac.New(sha256.New, []byte(key))
		_, _ = fmt.Fprintf(h, "%s%s:%d", account, stream, index) // never fails
		s, err := blockCipher(h.Sum(nil), sealedKey)
		if err == nil {
			s.XORKeyStream(buf, buf)
			return nil
		}
	}
	return errBlockKey
}

// blockCipher opens a block's key with either of nats-server's ciphers.
func blockCipher(secret, sealedKey []byte) (cipher.Stream, error) {
	if chacha, err := chacha20poly1305.NewX(secret); err == nil && len(sealedKey) > chacha.NonceSize() {
		nonce := sealedKey[:chacha.NonceSize()]
		if seed, err := chacha.Open(nil, nonce, sealedKey[len(nonce):], nil); err == nil {
			return chacha20.NewUnauthenticatedCipher(seed, nonce)
		}
	}
	outer, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithNonceSize(outer, outer.BlockSize())
	if err != nil || len(sealedKey) <= gcm.NonceSize() {
		return nil, errBlockKey
	}
	nonce := sealedKey[:gcm.NonceSize()]
	seed, err := gcm.Open(nil, nonce, sealedKey[len(nonce):], nil)
	if err != nil {
		return nil, err
	}
	inner, err := aes.NewCipher(seed)
	if err != nil {
		return nil, err
	}
	return cipher.NewCTR(inner, nonce), nil
}

// openIndex decrypts it.
func openIndex(buf, sealedKey []byte, account, stream string, keys []string) []byte {
	for _, key := range keys {
		h := hmac.New(sha256.New, []byte(key))
		_, _ = fmt.Fprint(h, account, stream) // never fails
		for _, aead := range []func([]byte) (cipher.AEAD, error){chacha20poly1305.NewX, gcm} {
			outer, err := aead(h.Sum(nil))
			if err != nil || len(sealedKey) <= outer.NonceSize() {
				continue
			}
			seed, err := outer.Open(nil, sealedKey[:outer.NonceSize()], sealedKey[outer.NonceSize():], nil)
			if err != nil {
				continue
			}
			inner, err := aead(seed)
			if err != nil || len(buf) <= inner.NonceSize() {
				continue
			}
			if plain, err := inner.Open(nil, buf[:inner.NonceSize()], buf[inner.NonceSize():], nil); err == nil {
				return plain
			}
		}
	}
	return nil
}

// gcm is nats-server's other cipher.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, block.BlockSize())
}
