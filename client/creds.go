package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// CredentialsFile reads a .creds file at every connect, so that a file which
// is replaced renews the credential.
func CredentialsFile(path string) Credentials {
	return func(context.Context) (string, Signer, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", nil, err
		}
		token, sign, err := ParseCreds(text)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		return token, sign, nil
	}
}

// ParseCreds reads the text of a .creds file: the JWT, and a signer with the
// key beside it. A text that is nothing but a JWT is a bearer token, with no
// signer.
func ParseCreds(text []byte) (token string, sign Signer, err error) {
	bare := bytes.TrimSpace(text)
	if bytes.Count(bare, []byte{'.'}) == 2 && !bytes.ContainsAny(bare, " \t\r\n") {
		return string(bare), nil, nil
	}
	token, err = jwt.ParseDecoratedJWT(text)
	if err != nil {
		return "", nil, fmt.Errorf("no JWT, make one with rccs creds: %w", err)
	}
	key, err := jwt.ParseDecoratedNKey(text)
	if err != nil {
		return "", nil, fmt.Errorf("no key beside the JWT, make one with rccs creds: %w", err)
	}
	return token, signer(key), nil
}

func signer(key nkeys.KeyPair) Signer {
	return func(nonce []byte) ([]byte, error) { return key.Sign(nonce) }
}

func encodeSig(sig []byte) string { return base64.RawURLEncoding.EncodeToString(sig) }
