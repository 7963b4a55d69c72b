package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
)

// enrolledTag marks a credential that can be renewed.
const enrolledTag = "rccs-enrolled"

// RenewedFile is [CredentialsFile] of a file with what [Enroll] made: when a
// third of the credential's life is over it is renewed at the edge, and the
// file replaced, also after it has expired. A client asks for its credential
// when half of its life is over, so a connection goes on without a break. opts may be nil.
//
// A credential that cannot be renewed now is used for as long as it is good;
// one that was not made by Enroll is used as it is.
func RenewedFile(edge, path string, opts *EnrollOptions) Credentials {
	read := CredentialsFile(path)
	return func(ctx context.Context) (string, Signer, error) {
		creds, err := os.ReadFile(path)
		if err != nil {
			return "", nil, err
		}
		due, expired := renewable(creds, time.Now())
		if due {
			err := renewFile(ctx, edge, path, creds, opts)
			if err != nil && expired {
				return "", nil, err
			}
		}
		return read(ctx)
	}
}

// renewable reports whether a credential should be renewed, and whether it has to
// be.
func renewable(creds []byte, now time.Time) (due, expired bool) {
	token, err := jwt.ParseDecoratedJWT(creds)
	if err != nil {
		return false, false
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil || claims.Expires == 0 || !slices.Contains(claims.Tags, enrolledTag) {
		return false, false
	}
	issued, expires := time.Unix(claims.IssuedAt, 0), time.Unix(claims.Expires, 0)
	return now.After(issued.Add(expires.Sub(issued) / 3)), !now.Before(expires)
}

func renewFile(ctx context.Context, edge, path string, creds []byte, opts *EnrollOptions) error {
	fresh, err := Renew(ctx, edge, creds, opts)
	if err != nil {
		return err
	}
	return WriteCreds(path, fresh)
}

// WriteCreds puts the text of a .creds file into a file that only its owner
// may read. After a crash it has the old or the new content.
func WriteCreds(path string, creds []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".creds-*") // mode 0600
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	_, err = temp.Write(creds)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("client: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}
