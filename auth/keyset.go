package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/internal/private"
)

// keySet is what the files of a keystore say.
type keySet struct {
	name   string // of the tenant
	pairs  map[string]nkeys.KeyPair
	tokens map[string]string

	operator       *jwt.OperatorClaims
	system, tenant *jwt.AccountClaims
}

// tenantFile is what a file of a tenant is called, by what that of the default
// tenant is.
func tenantFile(tenant, name string) string {
	if rest, ok := strings.CutPrefix(name, DefaultTenant); ok && tenant != DefaultTenant {
		return "tenant-" + tenant + rest
	}
	return name
}

func (s *keySet) file(name string) string { return tenantFile(s.name, name) }

// readSet reads all files of a tenant, and of the installation, and checks that
// each fits the others.
func readSet(dir, tenant string) (*keySet, error) {
	if err := private.Check(dir); err != nil {
		return nil, err
	}
	set := &keySet{name: tenant, pairs: make(map[string]nkeys.KeyPair), tokens: make(map[string]string)}
	for _, name := range []string{operatorSeed, operatorSigning, systemSeed, tenantSeed, tenantSigning} {
		if err := set.readSeed(dir, name); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{operatorToken, systemToken, tenantToken} {
		if err := set.readToken(dir, name); err != nil {
			return nil, err
		}
	}
	public, err := publicKeys(set.pairs)
	if err != nil {
		return nil, err
	}
	if name, err := set.check(public); err != nil {
		return nil, spoilt(dir, set.file(name), err)
	}
	return set, nil
}

// spoilt is the error about a file that has to be restored.
func spoilt(dir, name string, err error) error {
	return fmt.Errorf("%s: %w: restore the file from a backup; or, to begin anew, which ends every credential that was made, move %s away",
		filepath.Join(dir, name), err, dir)
}

func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	if err := private.Check(path); errors.Is(err, os.ErrNotExist) {
		return nil, spoilt(dir, name, errors.New("it is missing"))
	} else if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	return bytes.TrimSpace(content), err // an editor adds a newline
}

func (s *keySet) readSeed(dir, name string) error {
	seed, err := readFile(dir, s.file(name))
	if err != nil {
		return err
	}
	if s.pairs[name], err = nkeys.FromSeed(seed); err != nil {
		return spoilt(dir, s.file(name), fmt.Errorf("not a seed: %w", err))
	}
	return nil
}

func (s *keySet) readToken(dir, name string) error {
	content, err := readFile(dir, s.file(name))
	if err != nil {
		return err
	}
	token := string(content)
	s.tokens[name] = token
	switch name { // decoding checks that the token's issuer signed it
	case operatorToken:
		s.operator, err = jwt.DecodeOperatorClaims(token)
	case systemToken:
		s.system, err = jwt.DecodeAccountClaims(token)
	case tenantToken:
		s.tenant, err = jwt.DecodeAccountClaims(token)
	}
	if err != nil {
		return spoilt(dir, s.file(name), err)
	}
	return nil
}

// check returns the first file that does not fit the others.
func (s *keySet) check(public map[string]string) (string, error) {
	mismatch := func(with string) error { return fmt.Errorf("it does not belong with %s", s.file(with)) }
	switch {
	case s.operator.Subject != public[operatorSeed] || s.operator.Issuer != s.operator.Subject:
		return operatorToken, mismatch(operatorSeed)
	case !s.operator.SigningKeys.Contains(public[operatorSigning]):
		return operatorSigning, mismatch(operatorToken)
	case s.system.Subject != public[systemSeed]:
		return systemToken, mismatch(systemSeed)
	case s.operator.SystemAccount != s.system.Subject || !s.operator.DidSign(s.system):
		return systemToken, mismatch(operatorToken)
	case s.tenant.Subject != public[tenantSeed]:
		return tenantToken, mismatch(tenantSeed)
	case s.tenant.Name != s.name:
		return tenantToken, fmt.Errorf("it is of a tenant %q", s.tenant.Name)
	case !s.operator.DidSign(s.tenant):
		return tenantToken, mismatch(operatorToken)
	}
	if scope, ok := s.tenant.SigningKeys.GetScope(public[tenantSigning]); !ok || scope != nil {
		return tenantSigning, mismatch(tenantToken)
	}
	return "", nil
}
