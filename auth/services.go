package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"sort"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/internal/layout"
)

// Backend services are users of an account of their own, see
// [layout.ServiceImports]. Its key follows from the tenant's, and its JWT from
// the tenant's JWT, so that neither has to be kept: what the tenant has revoked
// is revoked there too.

// servicesName is what the account is called, behind the tenant's name.
const servicesName = " services"

// servicesKey derives the services' account's key from the tenant's seed.
func (s *keySet) servicesKey() (nkeys.KeyPair, error) {
	seed, err := s.pairs[tenantSeed].Seed()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte("rccs account key v1\nservices"))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteAccount, mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("derive the key of the services' account: %w", err)
	}
	return pair, nil
}

// exports are what the tenant offers. It needs no token of an importer: nobody
// but the operator can sign an import.
func exports() jwt.Exports {
	var all jwt.Exports
	for _, i := range layout.ServiceImports() {
		e := &jwt.Export{Name: exportName(i), Subject: jwt.Subject(i.Subject), Type: jwt.Service}
		switch {
		case i.Heard:
			e.Type = jwt.Stream
		case i.Many > 0:
			e.ResponseType, e.ResponseThreshold = jwt.ResponseTypeStream, i.Many
		default:
			e.ResponseType = jwt.ResponseTypeSingleton
		}
		all = append(all, e)
	}
	return all
}

func exportName(i layout.Import) string {
	if i.Heard {
		return "hear " + i.Subject
	}
	return i.Subject
}

// upToDate reports whether the tenant offers what this version does.
func upToDate(tenant *jwt.AccountClaims) bool {
	want := exports()
	sort.Sort(want) // as a JWT has them
	return reflect.DeepEqual(tenant.Exports, want)
}

// services makes the JWT of the tenant's services' account.
func (s *keySet) services(tenant *jwt.AccountClaims) (string, error) {
	pair, err := s.servicesKey()
	if err != nil {
		return "", err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return "", err
	}
	claims := jwt.NewAccountClaims(public)
	claims.Name = tenant.Name + servicesName
	claims.Revocations = maps.Clone(tenant.Revocations)
	for from, to := range layout.ServiceMappings() {
		claims.AddMapping(jwt.Subject(from), jwt.WeightedMapping{Subject: jwt.Subject(to)})
	}
	for _, i := range layout.ServiceImports() {
		in := &jwt.Import{
			Name: exportName(i), Subject: jwt.Subject(i.Subject), Account: tenant.Subject, LocalSubject: jwt.RenamingSubject(i.Local), Type: jwt.Service,
			Share: i.Share,
		}
		if i.Heard {
			in.Type = jwt.Stream
		}
		claims.Imports = append(claims.Imports, in)
	}
	token, err := claims.Encode(s.pairs[operatorSigning])
	if err != nil {
		return "", fmt.Errorf("sign the services' account: %w", err)
	}
	return token, nil
}
