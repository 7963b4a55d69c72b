package enroll

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/storeerr"
)

// alphabet of codes is Crockford's base 32: no letter that looks like a digit
// or, with U, makes words.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// codeLetters make 40 bits, of which the throttle lets some thousand be guessed
// in the life of a code.
const codeLetters = 8

// How long a code is good.
const (
	DefaultCodeLife = 10 * time.Minute
	MaxCodeLife     = 24 * time.Hour
)

// grant is what a code stands for.
type grant struct {
	User    string    `json:"user"`
	Device  string    `json:"device,omitempty"` // empty: any
	Type    string    `json:"type,omitempty"`   // of the device; empty: it says so itself
	Expires time.Time `json:"expires"`
}

// errBadCode tells nobody whether a code was ever one.
var errBadCode = errors.New("enroll: the code is wrong, was used, or has expired")

// codes are the one-time codes of a tenant.
type codes struct {
	kv     jetstream.KeyValue
	secret []byte // keys the hash
	now    func() time.Time
}

// newCode makes a code, like ABCD-EFGH.
func newCode() string {
	var raw [codeLetters]byte
	_, _ = rand.Read(raw[:]) // never fails
	for i, b := range raw {
		raw[i] = alphabet[int(b)%len(alphabet)] // 32 divides 256
	}
	return string(raw[:codeLetters/2]) + "-" + string(raw[codeLetters/2:])
}

// normal is a code as it was made, whatever a person made of it: letters that
// look like digits, small ones, and what stands between.
func normal(code string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '\t', '.', '_':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, code)
}

// entry is the key of a code in the bucket. Whoever reads the bucket cannot
// try all codes without the installation's secret.
func (c *codes) entry(code string) string {
	mac := hmac.New(sha256.New, c.secret)
	mac.Write([]byte(normal(code)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// create stores a new code.
func (c *codes) create(ctx context.Context, g grant) (string, error) {
	value, err := json.Marshal(g)
	if err != nil {
		return "", fmt.Errorf("enroll: %w", err)
	}
	for {
		code := newCode()
		_, err := c.kv.Create(ctx, c.entry(code), value)
		switch {
		case err == nil:
			return code, nil
		case !storeerr.Lost(err): // else one in a million million
			return "", fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
		}
	}
}

// found is a code that may be redeemed.
type found struct {
	grant
	entry    string
	revision uint64
}

// find looks a code up. Whether it is still there is only known when it was
// redeemed. The error is errBadCode unless the store failed.
func (c *codes) find(ctx context.Context, code string) (found, error) {
	f := found{entry: c.entry(code)}
	stored, err := c.kv.Get(ctx, f.entry)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return f, errBadCode
	}
	if err != nil {
		return f, fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
	}
	if err := json.Unmarshal(stored.Value(), &f.grant); err != nil {
		return f, fmt.Errorf("enroll: a stored code: %w", err)
	}
	f.revision = stored.Revision()
	if !c.now().Before(f.Expires) {
		return f, errBadCode
	}
	return f, nil
}

// redeem takes the code away: of all who try, one succeeds, and the others get
// errBadCode.
func (c *codes) redeem(ctx context.Context, f found) error {
	err := c.kv.Delete(ctx, f.entry, jetstream.LastRevision(f.revision))
	switch {
	case err == nil:
		return nil
	case storeerr.Lost(err):
		return errBadCode
	}
	return fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
}

// putBack makes a code good again that was redeemed for nothing.
func (c *codes) putBack(ctx context.Context, f found) error {
	value, err := json.Marshal(f.grant)
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	if _, err := c.kv.Create(ctx, f.entry, value); err != nil {
		return fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
	}
	return nil
}
