package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// How often keys are read.
const (
	// keysFresh is after how long they are read again though all seems well: a
	// key that the issuer has taken back is trusted for no longer.
	keysFresh = 5 * time.Minute
	// keysStale is for how long they are used when they cannot be read again.
	keysStale = time.Hour
	// keysEvery is how often at most they are read for a key that is not there,
	// which anybody may name.
	keysEvery   = 10 * time.Second
	keysTimeout = 5 * time.Second
	maxKeysDoc  = 1 << 20
)

// keySource is an issuer's keys, as they were read last.
type keySource struct {
	opts *OIDCOptions
	file bool
	busy chan struct{} // held while keys are read or looked into; guards the rest

	set   jose.JSONWebKeySet
	read  time.Time // when set was read
	tried time.Time
}

// keyClient is for keys: it follows no redirection, since only the URLs that
// were checked may say what an issuer's keys are.
func keyClient() *http.Client {
	return &http.Client{
		Timeout:       keysTimeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newKeySource(opts *OIDCOptions) (*keySource, error) {
	s := &keySource{opts: opts, busy: make(chan struct{}, 1)}
	switch {
	case opts.JWKS == "":
		return s, checkKeyURL(opts.Issuer)
	case strings.Contains(opts.JWKS, "://"):
		return s, checkKeyURL(opts.JWKS)
	}
	s.file = true
	return s, s.reload(context.Background())
}

// checkKeyURL refuses a URL on whose way anybody could change the keys.
func checkKeyURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("enroll: URL of keys: %w", err)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("enroll: %q: keys come by https, or by http from this host", text)
	}
	return nil
}

// find returns the keys that a token with this header may be signed with.
func (s *keySource) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := s.opts.Now()
	fits := s.fits(id, algorithm)
	stale := now.Sub(s.read) > keysFresh
	if (stale || len(fits) == 0) && now.Sub(s.tried) > keysEvery {
		err := s.reload(ctx)
		if err != nil && now.Sub(s.read) > keysStale {
			return nil, err
		}
		fits = s.fits(id, algorithm)
	}
	if now.Sub(s.read) > keysStale {
		return nil, errors.New("enroll: the issuer's keys were not read for too long")
	}
	return fits, nil
}

func (s *keySource) fits(id, algorithm string) []jose.JSONWebKey {
	var fits []jose.JSONWebKey
	for _, key := range s.set.Keys {
		if _, secret := key.Key.([]byte); secret || !key.Valid() || !key.IsPublic() {
			continue
		}
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == algorithm) && (key.Use == "" || key.Use == "sig") {
			fits = append(fits, key)
		}
	}
	return fits
}

// reload reads the keys anew. Those that are known stay if it fails.
func (s *keySource) reload(ctx context.Context) error {
	s.tried = s.opts.Now()
	text, err := s.fetch(ctx)
	if err != nil {
		return err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return fmt.Errorf("enroll: the issuer's keys are no JWKS: %w", err)
	}
	if len(set.Keys) == 0 {
		return errors.New("enroll: the issuer's JWKS has no key")
	}
	s.set, s.read = set, s.tried
	return nil
}

func (s *keySource) fetch(ctx context.Context) ([]byte, error) {
	if s.file {
		text, err := os.ReadFile(s.opts.JWKS)
		if err != nil {
			return nil, fmt.Errorf("enroll: the issuer's keys: %w", err)
		}
		return text, nil
	}
	where := s.opts.JWKS
	if where == "" {
		var err error
		if where, err = s.discover(ctx); err != nil {
			return nil, err
		}
	}
	return s.get(ctx, where)
}

// discover asks the issuer where its keys are.
func (s *keySource) discover(ctx context.Context) (string, error) {
	text, err := s.get(ctx, strings.TrimSuffix(s.opts.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var found struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return "", fmt.Errorf("enroll: the issuer's configuration: %w", err)
	}
	if found.Issuer != s.opts.Issuer {
		return "", fmt.Errorf("enroll: the issuer calls itself %q, not %q", found.Issuer, s.opts.Issuer)
	}
	return found.JWKS, checkKeyURL(found.JWKS)
}

func (s *keySource) get(ctx context.Context, where string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, fmt.Errorf("enroll: the issuer's keys: %w", err)
	}
	resp, err := s.opts.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("enroll: the issuer's keys: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("enroll: the issuer's keys: %s answered %s", where, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeysDoc))
	if err != nil {
		return nil, fmt.Errorf("enroll: the issuer's keys: %w", err)
	}
	return text, nil
}
