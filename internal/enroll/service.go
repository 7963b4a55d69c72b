package enroll

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/leader"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// How long things last when nothing is said.
const (
	DefaultLife     = 24 * time.Hour
	DefaultRenewFor = 30 * 24 * time.Hour
	// DefaultMaxDevices is how many devices of a user may be enrolled.
	DefaultMaxDevices = 1000
	// refusalStep: a key that is not known is refused at the end of such a step, since at once would tell,
	// by some 30 µs, whether there is such a device.
	refusalStep = 10 * time.Millisecond
	// clockSkew is how far the time of a request may be from the clock here.
	clockSkew = 5 * time.Minute
)

// Signer signs tokens; [auth.Keystore] is one.
type Signer interface {
	EnrollDevice(a subjects.Address, publicKey string, opts auth.DeviceOptions) (string, error)
	Secret(label string) []byte
}

// TokenVerifier checks a third party's token, and says whose it is.
type TokenVerifier interface {
	User(ctx context.Context, token string) (subjects.UserID, error)
}

// Options configure a [Service]. Zero values mean the documented default.
type Options struct {
	// Tenant is the name of the tenant whose devices are enrolled. Default
	// [auth.DefaultTenant].
	Tenant string
	// Shards is how many shards the tenant has; 0 is 1.
	Shards int
	// JetStream of the tenant, with its buckets. Needed.
	JetStream jetstream.JetStream
	// Signer is needed.
	Signer Signer
	// Revoked reports whether the tenant has revoked what was issued then for a
	// device and its key. Needed.
	Revoked func(a subjects.Address, publicKey string, issued time.Time) bool
	// Tokens checks claims that are a third party's token; nil: none is taken.
	Tokens TokenVerifier
	// Life of a token. Default 24 h.
	Life time.Duration
	// RenewFor is how long after a token was signed its key may ask for the
	// next. Default 30 days.
	RenewFor time.Duration
	// MaxDevices is how many devices of a user may be enrolled. What is kept of a
	// device lies where no message takes room, so it must be bounded itself. Default
	// [DefaultMaxDevices].
	MaxDevices int
	// Logger; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil: the system's.
	Now func() time.Time
}

func (o *Options) validate() error {
	if o.JetStream == nil || o.Signer == nil || o.Revoked == nil {
		return errors.New("enroll: JetStream, Signer and Revoked are needed")
	}
	if o.Life == 0 {
		o.Life = DefaultLife
	}
	if o.RenewFor == 0 {
		o.RenewFor = DefaultRenewFor
	}
	if o.Life < time.Second || o.RenewFor < o.Life {
		return fmt.Errorf("enroll: tokens that last %s and can be renewed for %s: want at least a second, and the second no shorter than the first", o.Life, o.RenewFor)
	}
	if o.MaxDevices <= 0 {
		o.MaxDevices = DefaultMaxDevices
	}
	if o.Tenant == "" {
		o.Tenant = auth.DefaultTenant
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Service enrols devices of a tenant.
type Service struct {
	opts     Options
	codes    codes
	keys     keys
	devices  []jetstream.KeyValue // of each shard
	throttle *throttle
}

// New opens the tenant's buckets.
func New(ctx context.Context, opts Options) (*Service, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Service{opts: opts, throttle: newThrottle(opts.Now)}
	codeKV, err := leader.Bucket(ctx, opts.JetStream, layout.BucketCodes)
	if err != nil {
		return nil, fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
	}
	keyKV, err := leader.Bucket(ctx, opts.JetStream, layout.BucketEnrolled)
	if err != nil {
		return nil, fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
	}
	for _, one := range shard.All(opts.Shards) {
		kv, err := leader.Bucket(ctx, opts.JetStream, one.Bucket(layout.BucketDevices))
		if err != nil {
			return nil, fmt.Errorf("enroll: bucket %s: %w", one.Bucket(layout.BucketDevices), err)
		}
		s.devices = append(s.devices, kv)
	}
	s.codes = codes{kv: codeKV, secret: opts.Signer.Secret("enrolment codes"), now: opts.Now}
	s.keys = keys{kv: keyKV, now: opts.Now}
	return s, nil
}

// Code is a new one-time code, and how it is asked for.
type Code struct {
	Code    string    `json:"code,omitempty"`
	User    string    `json:"user"`
	Device  string    `json:"device,omitempty"`
	Type    string    `json:"type,omitempty"`
	Seconds int       `json:"seconds,omitempty"` // how long it is good; 0: the default
	Expires time.Time `json:"expiresAt,omitzero"`
}

// Link returns the link that a QR code of an enrolment code holds. It names the
// tenant unless that is the default one, and where the device connects unless edge
// is empty.
func (c *Code) Link(edge, tenant string) string {
	q := url.Values{"code": {c.Code}, "user": {c.User}}
	if c.Device != "" {
		q.Set("device", c.Device)
	}
	if edge != "" {
		q.Set("url", edge)
	}
	if tenant != auth.DefaultTenant {
		q.Set("tenant", tenant)
	}
	return "rccs:enroll?" + q.Encode()
}

// NewCode makes a one-time code from what body asks for, a [Code].
func (s *Service) NewCode(ctx context.Context, body []byte) (*Code, error) {
	var c Code
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, wire.NewError(wire.BadMessage, `want {"user","device"?,"type"?,"seconds"?}: `+err.Error())
	}
	return s.Make(ctx, c)
}

// Make makes a one-time code as c asks for it. The error is a [wire.Error].
func (s *Service) Make(ctx context.Context, c Code) (*Code, error) {
	device := c.Device
	if device == "" {
		device = "any"
	}
	if err := (subjects.Address{User: subjects.UserID(c.User), Device: subjects.DeviceID(device)}).Check(); err != nil {
		return nil, wire.NewError(wire.BadMessage, err.Error())
	}
	if err := (auth.DeviceOptions{Type: c.Type}).Check(); err != nil {
		return nil, wire.NewError(wire.BadMessage, err.Error())
	}
	if c.Seconds < 0 || c.Seconds > int(MaxCodeLife/time.Second) {
		return nil, wire.Errorf(wire.BadMessage, "a code is good for %s at most", MaxCodeLife)
	}
	life := DefaultCodeLife
	if c.Seconds > 0 {
		life = time.Duration(c.Seconds) * time.Second
	}
	c.Seconds, c.Expires = 0, s.opts.Now().Add(life).UTC().Truncate(time.Millisecond)
	var err error
	c.Code, err = s.codes.create(ctx, grant{User: c.User, Device: c.Device, Type: c.Type, Expires: c.Expires})
	if err != nil {
		return nil, s.outward(err)
	}
	return &c, nil
}

func (s *Service) sign(a subjects.Address, key Key) (*wire.Enrolled, error) {
	expires := s.opts.Now().Add(s.opts.Life).UTC().Truncate(time.Second)
	token, err := s.opts.Signer.EnrollDevice(a, key.PublicKey, auth.DeviceOptions{Type: key.Type, Expires: s.opts.Life})
	if err != nil {
		return nil, err
	}
	return &wire.Enrolled{
		JWT: token, User: a.User, Device: a.Device, Expires: expires, RenewUntil: key.Until.Truncate(time.Second),
	}, nil
}

// open reads a request and checks who signed it, and when.
func (s *Service) open(body []byte, p wire.Purpose) (*wire.Enrollment, error) {
	e, signed, err := wire.DecodeEnrollment(body)
	if err != nil {
		return nil, err
	}
	if !nkeys.IsValidPublicUserKey(e.PublicKey) {
		return nil, wire.NewError(wire.BadMessage, "publicKey is not the public half of a user nkey")
	}
	pair, err := nkeys.FromPublicKey(e.PublicKey)
	if err != nil {
		return nil, wire.NewError(wire.BadMessage, "publicKey is not the public half of a user nkey")
	}
	sig, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(signed.Sig, "="))
	if err != nil || pair.Verify(signed.Message(p), sig) != nil {
		return nil, wire.NewError(wire.AuthError, "sig is not a signature of the request by publicKey")
	}
	now := s.opts.Now()
	if off := now.Sub(e.Time).Abs(); off > clockSkew {
		return nil, wire.Errorf(wire.AuthError, "the request says that it is %s, here it is %s: set the clock, or sign anew",
			wire.FormatTime(e.Time), wire.FormatTime(now))
	}
	return &e, nil
}

// outward is what the peer may hear of an error; the rest is logged.
func (s *Service) outward(err error) *wire.Error {
	switch {
	case errors.Is(err, errBadCode):
		return wire.NewError(wire.AuthError, "the code is wrong, was used, or has expired: ask for a new one")
	case errors.Is(err, errBadToken):
		return wire.NewError(wire.AuthError, err.Error())
	case errors.Is(err, errReplayed):
		return wire.NewError(wire.AuthError, "this request, or a later one of the key, was accepted before: sign a new one")
	case errors.Is(err, errUnknownKey):
		return wire.NewError(wire.AuthError, "this key is not enrolled for the device, or was not renewed in time: enrol again")
	case errors.Is(err, errTooMany):
		return wire.Errorf(wire.QueueFull, "%d keys are enrolled for this device, which is all there may be: revoke the device, or use another name", maxKeys)
	}
	if told, ok := errors.AsType[*wire.Error](err); ok {
		return told
	}
	s.opts.Logger.Error("enrolment failed", "err", err)
	return wire.NewError(wire.Unavailable, "the store does not answer, try again")
}
