package enroll

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// answers is an issuer that answers everything alike.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// What an issuer answers is read without a fault. Of its keys only public ones
// that are whole count, and its keys are asked for over HTTPS, or on this host.
func FuzzIssuerAnswers(f *testing.F) {
	for _, text := range []string{
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
		`{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[null]}`, `{"keys":[{}]}`,
		`{"issuer":"https://id.example","jwks_uri":"https://id.example/keys"}`, `{"issuer":"https://id.example","jwks_uri":"file:///etc/passwd"}`,
		`{"issuer":"https://id.example","jwks_uri":"http://127.0.0.1/"}`, `[]`, ``,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := &keySource{opts: &OIDCOptions{
			Issuer: "https://id.example", JWKS: "https://id.example/keys", Client: &http.Client{Transport: answers(text)}, Now: time.Now,
		}}
		if s.reload(context.Background()) == nil { //nolint:usetesting // the fuzzer's context costs more than what is fuzzed
			for _, key := range s.fits("", "RS256") {
				if _, secret := key.Key.([]byte); secret || !key.IsPublic() {
					t.Errorf("%q has a key that everybody knows: %T", text, key.Key)
				}
			}
		}
		where, err := s.discover(context.Background()) //nolint:usetesting // the same
		if u, bad := url.Parse(where); err == nil && (bad != nil || u.Scheme != "https" && !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) && !strings.HasPrefix(u.Hostname(), "127.")) {
			t.Errorf("%q sends to %q for the keys", text, where)
		}
	})
}
