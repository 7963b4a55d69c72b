package node

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/rccs-io/rccs/internal/private"
)

// A token is long enough not to be guessed, and is no file that was named by
// mistake.
const (
	minToken = 16
	maxToken = 4096
)

// tokenFile is the token of the admin listener. The file is read again at
// each request, so that a new token counts at once; it holds a few bytes, and
// requests are few.
type tokenFile struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	good   [sha256.Size]byte // of the last token that could be read
	broken bool              // the file could not be used the last time
}

func openToken(path string, log *slog.Logger) (*tokenFile, error) {
	t := &tokenFile{path: path, log: log}
	sum, err := t.read()
	if err != nil {
		return nil, fmt.Errorf("node: --admin-token-file: %w", err)
	}
	t.good = sum
	return t, nil
}

// read is the hash of what the file holds.
func (t *tokenFile) read() ([sha256.Size]byte, error) {
	if err := private.Check(t.path); err != nil {
		return [sha256.Size]byte{}, err
	}
	file, err := os.Open(t.path)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || len(token) > maxToken || strings.ContainsFunc(token, notToken) {
		return [sha256.Size]byte{}, fmt.Errorf("%s holds no token: want one line of %d to %d printable characters without space, such as 'openssl rand -hex 32' prints",
			t.path, minToken, maxToken)
	}
	return sha256.Sum256([]byte(token)), nil
}

func notToken(r rune) bool { return r <= ' ' || r >= 0x7f }

// current is the token that counts now. A file that cannot be used leaves the
// one of before.
func (t *tokenFile) current() [sha256.Size]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum, err := t.read()
	if err == nil {
		t.good = sum
	} else if !t.broken {
		t.log.Error("the admin token of before stays in use", "err", err)
	}
	t.broken = err != nil
	return t.good
}

var errNoToken = errors.New("this needs 'Authorization: Bearer TOKEN', with the token of --admin-token-file")

// is reports whether a token is that of the file. Hashes are compared, in a time
// that depends neither on the length nor on what agrees.
func (t *tokenFile) is(token string) bool {
	got, want := sha256.Sum256([]byte(token)), t.current()
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// allows reports whether a request has the token.
func (t *tokenFile) allows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return t.is(strings.TrimSpace(token)) && strings.EqualFold(scheme, "Bearer")
}

// protect asks for the token.
func (t *tokenFile) protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !t.allows(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="rccs admin"`)
			http.Error(w, errNoToken.Error(), http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}
