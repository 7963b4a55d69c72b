package backbone

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/chacha20poly1305"
)

// MinStoreKey is how long a key must be at least. It should be random: the
// store's keys are encrypted with a hash of it, without anything that would
// make guessing slow.
const MinStoreKey = 32

// Errors of a store and a key that do not belong together. Test with errors.Is.
var (
	ErrKeyMissing = errors.New("what is stored is encrypted, and no key was given")
	ErrKeyWrong   = errors.New("what is stored is encrypted with another key")
)

// checkKey refuses a key with which the store cannot be read. nats-server would
// pass over every stream that it cannot decrypt, with a warning, and they would
// be made anew.
func checkKey(dir string, opts *server.Options) error {
	if opts.JetStreamTpm.KeysFile != "" {
		return nil // nats-server gets the key from the machine
	}
	streams, err := encrypted(dir)
	if err != nil || len(streams) == 0 {
		return err // what is not encrypted yet, nats-server encrypts
	}
	if opts.JetStreamKey == "" {
		return fmt.Errorf("backbone: %s: %w: give the key it was encrypted with", dir, ErrKeyMissing)
	}
	for _, s := range streams {
		if !s.opens(opts.JetStreamKey) && (opts.JetStreamOldKey == "" || !s.opens(opts.JetStreamOldKey)) {
			return fmt.Errorf("backbone: %s: %w (stream %s): give that one; or, when the key is to change, both",
				dir, ErrKeyWrong, s.name)
		}
	}
	return nil
}

// sealed is the key of an encrypted stream, encrypted with that of the store.
type sealed struct {
	account, name string
	key           []byte
}

// encrypted lists the encrypted streams of a store.
func encrypted(dir string) ([]sealed, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(dir), server.JetStreamStoreDir, "*", "streams", "*", server.JetStreamMetaFileKey))
	if err != nil {
		return nil, fmt.Errorf("backbone: %w", err)
	}
	var all []sealed
	for _, path := range paths {
		if strings.HasPrefix(filepath.Base(filepath.Dir(path)), ".") {
			continue // about to be removed
		}
		key, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("backbone: %w", err)
		}
		stream := filepath.Dir(path)
		all = append(all, sealed{account: filepath.Base(filepath.Dir(filepath.Dir(stream))), name: filepath.Base(stream), key: key})
	}
	return all, nil
}

// escapeGlob makes a path a pattern that only it fits.
func escapeGlob(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			if os.PathSeparator != '\\' {
				b = append(b, '\\')
			}
		}
		b = append(b, path[i])
	}
	return string(b)
}

// opens reports whether a stream's key can be decrypted, in the way of nats-server
// and with either of its ciphers.
func (s *sealed) opens(key string) bool {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = h.Write([]byte(s.account + s.name)) // never fails
	secret := h.Sum(nil)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return false
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, block.BlockSize())
	if err != nil {
		return false
	}
	chacha, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return false
	}
	for _, c := range []cipher.AEAD{chacha, gcm} {
		n := c.NonceSize()
		if len(s.key) <= n {
			continue
		}
		if _, err := c.Open(nil, s.key[:n], s.key[n:], nil); err == nil {
			return true
		}
	}
	return false
}
