package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Claim says whose a device is. One of Code and Token is needed.
type Claim struct {
	Code  string // a one-time code, from 'rccs enroll code'
	Token string // an identity token of the party that the server trusts
	// Tenant is the installation's tenant that the user is of; empty: its
	// default one.
	Tenant string
}

// EnrollOptions say how an edge is reached. The zero value is the defaults.
type EnrollOptions struct {
	// TLS and CAFile are as in [Options].
	TLS    *tls.Config
	CAFile string
}

// Enroll makes a key for a device, and a credential for it by a claim, at the
// edge with this URL: the one to connect to. It returns the text of a .creds
// file, with the key's seed, which was never sent. device may be empty where
// the code names it. opts may be nil.
//
// What the server refuses is a [wire.Error].
func Enroll(ctx context.Context, edge string, device subjects.DeviceID, claim Claim, opts *EnrollOptions) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("client: make a key: %w", err)
	}
	defer key.Wipe()
	e := wire.Enrollment{Device: device, Code: claim.Code, Token: claim.Token, Tenant: claim.Tenant}
	return ask(ctx, opts, edge, "enroll", wire.PurposeEnroll, key, &e)
}

// Renew makes the next credential for the key of one that [Enroll] made; creds
// is the text of the .creds file, and so is what it returns. It works for some
// time after the credential has expired, too.
func Renew(ctx context.Context, edge string, creds []byte, opts *EnrollOptions) ([]byte, error) {
	token, key, err := parseOwnKey(creds)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, fmt.Errorf("client: credential: %w", err)
	}
	a, err := subjects.ParseAddress(claims.Name)
	if err != nil {
		return nil, fmt.Errorf("client: the credential is not a device's: %w", err)
	}
	e := wire.Enrollment{User: a.User, Device: a.Device}
	for _, tag := range claims.Tags {
		if tenant, ok := strings.CutPrefix(tag, wire.TenantTag); ok {
			e.Tenant = tenant
		}
	}
	return ask(ctx, opts, edge, "renew", wire.PurposeRenew, key, &e)
}

func parseOwnKey(creds []byte) (string, nkeys.KeyPair, error) {
	token, err := jwt.ParseDecoratedJWT(creds)
	if err != nil {
		return "", nil, fmt.Errorf("client: no JWT in the credentials: %w", err)
	}
	key, err := jwt.ParseDecoratedUserNKey(creds)
	if err != nil {
		return "", nil, fmt.Errorf("client: no key in the credentials: %w", err)
	}
	return token, key, nil
}

// ask signs the request, posts it, and makes a credential of the answer.
func ask(ctx context.Context, opts *EnrollOptions, edge, path string, p wire.Purpose, key nkeys.KeyPair, e *wire.Enrollment) ([]byte, error) {
	body, err := signRequest(p, key, e)
	if err != nil {
		return nil, err
	}
	to, err := besides(edge, path)
	if err != nil {
		return nil, err
	}
	answer, err := post(ctx, opts, to, body)
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	claims, err := jwt.DecodeUserClaims(answer.JWT)
	if err != nil || claims.Subject != e.PublicKey {
		return nil, errors.New("client: the server answered with a credential of another key")
	}
	creds, err := jwt.FormatUserConfig(answer.JWT, seed)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return creds, nil
}

func signRequest(p wire.Purpose, key nkeys.KeyPair, e *wire.Enrollment) ([]byte, error) {
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	e.PublicKey, e.Time = public, time.Now().UTC()
	s, err := e.Encode()
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(s.Message(p))
	if err != nil {
		return nil, fmt.Errorf("client: sign: %w", err)
	}
	s.Sig = base64.RawURLEncoding.EncodeToString(sig)
	return json.Marshal(s)
}

// besides is the URL of a path beside the one that devices connect to.
func besides(edge, path string) (string, error) {
	u, err := url.Parse(edge)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	switch u.Scheme {
	case "ws", "http":
		u.Scheme = "http"
	case "wss", "https":
		u.Scheme = "https"
	default:
		return "", fmt.Errorf("client: %q is not the URL of an edge, such as wss://edge.example.com", edge)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/ws") + "/v1/" + path
	u.RawQuery, u.Fragment = "", ""
	return u.String(), nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// enrollTimeout bounds a request whose context has no end.
const enrollTimeout = 30 * time.Second

func post(ctx context.Context, opts *EnrollOptions, to string, body []byte) (*wire.Enrolled, error) {
	hc, err := opts.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", to, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(to, resp.Status, text)
	}
	var answer wire.Enrolled
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("client: %s answered what is no credential: %w", to, err)
	}
	return &answer, nil
}

// client makes one request. A redirection is not followed: it would be asked
// with another body, or of whom nobody named.
func (o *EnrollOptions) client() (*http.Client, error) {
	if o == nil {
		o = &EnrollOptions{}
	}
	trust, err := (&Options{TLS: o.TLS, CAFile: o.CAFile}).trust()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: trust},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// refusal is what an answer that is no success says.
func refusal(to, status string, text []byte) error {
	if werr, err := wire.DecodeError(text); err == nil && werr.Code != "" {
		return werr
	}
	return fmt.Errorf("client: %s answered %s: is it an edge?", to, status)
}
