package enroll

import (
	"cmp"
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
	// unknownWithin is when a key that is not known is refused: at once would tell,
	// by some 30 µs, whether there is such a device.
	unknownWithin = 10 * time.Millisecond
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
	codeKV, err := opts.JetStream.KeyValue(ctx, layout.BucketCodes)
	if err != nil {
		return nil, fmt.Errorf("enroll: bucket %s: %w", layout.BucketCodes, err)
	}
	keyKV, err := opts.JetStream.KeyValue(ctx, layout.BucketEnrolled)
	if err != nil {
		return nil, fmt.Errorf("enroll: bucket %s: %w", layout.BucketEnrolled, err)
	}
	for _, one := range shard.All(opts.Shards) {
		kv, err := opts.JetStream.KeyValue(ctx, one.Bucket(layout.BucketDevices))
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

// Enroll answers the body of a request that comes from an address. The error
// is a [wire.Error].
func (s *Service) Enroll(ctx context.Context, body []byte, from string) (*wire.Enrolled, error) {
	e, err := s.open(body, wire.PurposeEnroll)
	if err != nil {
		return nil, err
	}
	giveBack, werr := s.throttle.take(from)
	if werr != nil {
		return nil, werr
	}
	answer, err := s.enroll(ctx, e)
	if !isWrongClaim(err) {
		giveBack()
	}
	if err != nil {
		s.opts.Logger.Info("device not enrolled", "device", e.Device, "from", from, "err", err)
		return nil, s.outward(err)
	}
	s.opts.Logger.Info("device enrolled", "user", answer.User, "device", answer.Device, "from", from)
	return answer, nil
}

// errBadToken begins what is wrong with a third party's token.
var errBadToken = errors.New("the token was not accepted")

func isWrongClaim(err error) bool { return errors.Is(err, errBadCode) || errors.Is(err, errBadToken) }

func (s *Service) enroll(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	foreign := s.foreign(e)
	switch {
	case (e.Code == "") == (e.Token == ""):
		return nil, wire.NewError(wire.BadMessage, "one claim is needed: code or token")
	case e.Code != "" && foreign:
		_, err := s.codes.find(ctx, e.Code) // takes as long as for any other code
		return nil, cmp.Or(err, errBadCode)
	case e.Code != "":
		return s.byCode(ctx, e)
	case foreign:
		return nil, errBadToken
	}
	return s.byToken(ctx, e)
}

// foreign reports whether a request is to another tenant: the default one gets
// those to tenants that there are not.
func (s *Service) foreign(e *wire.Enrollment) bool {
	return cmp.Or(e.Tenant, auth.DefaultTenant) != s.opts.Tenant
}

func (s *Service) byCode(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	code, err := s.codes.find(ctx, e.Code)
	if err != nil {
		return nil, err
	}
	if e.Device == "" {
		e.Device = subjects.DeviceID(code.Device)
	}
	if code.Device != "" && e.Device != subjects.DeviceID(code.Device) {
		return nil, wire.NewError(wire.IdentityMismatch, "the code is for a device of another name")
	}
	a, err := s.address(code.User, e)
	if err != nil {
		return nil, err
	}
	if code.Device == "" {
		if err := s.free(ctx, a, e.PublicKey); err != nil {
			if _, used := s.codes.find(ctx, e.Code); used != nil {
				return nil, used // perhaps by who has the name now
			}
			return nil, err
		}
	}
	if err := s.codes.redeem(ctx, code); err != nil {
		return nil, err
	}
	var may func(*record) error
	if code.Device == "" {
		may = func(r *record) error {
			if own, other := s.holders(r, a, e.PublicKey); other && !own {
				return conflict(a)
			}
			return nil
		}
	}
	answer, err := s.admit(ctx, a, e, code.Type, may)
	if errors.Is(err, wire.Conflict) || errors.Is(err, wire.QueueFull) || errors.Is(err, errTooMany) { // the code is not to blame
		err = cmp.Or(s.codes.putBack(ctx, code), err)
	}
	return answer, err
}

// free refuses a name that is taken, to a code that does not say it: who got the
// code is let in as a new device, and not in the place of another one. A key that
// is the device's already only asks again. A name whose credentials were revoked is
// free, until somebody has enrolled with it since.
func (s *Service) free(ctx context.Context, a subjects.Address, publicKey string) error {
	r, _, err := s.keys.read(ctx, a)
	if err != nil {
		return err
	}
	own, taken := s.holders(&r, a, publicKey)
	if own {
		return nil
	}
	if !taken && !s.opts.Revoked(a, "", time.Unix(0, 0)) {
		_, err := s.devices[shard.OfUser(a.User, len(s.devices))].Get(ctx, layout.DeviceEntry(a.Key()))
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("enroll: bucket %s: %w", layout.BucketDevices, err)
		}
		taken = err == nil
	}
	if taken {
		return conflict(a)
	}
	return nil
}

// holders reports whether a key is the device's already, and whether another one
// is that is good.
func (s *Service) holders(r *record, a subjects.Address, publicKey string) (own, other bool) {
	for _, key := range r.Keys {
		own = own || key.PublicKey == publicKey
		other = other || key.PublicKey != publicKey && !s.opts.Now().After(key.Until) && !s.opts.Revoked(a, key.PublicKey, key.Enrolled)
	}
	return own, other
}

func conflict(a subjects.Address) error {
	return wire.Errorf(wire.Conflict,
		"%s has a device %q already: choose another name, or ask for a code that names the device; this code stays good", a.User, a.Device)
}

func (s *Service) byToken(ctx context.Context, e *wire.Enrollment) (*wire.Enrolled, error) {
	if s.opts.Tokens == nil && s.opts.Tenant != auth.DefaultTenant {
		return nil, errBadToken // as where there is no such tenant
	}
	if s.opts.Tokens == nil {
		return nil, wire.NewError(wire.PermissionDenied, "no third party's tokens are taken here: set --oidc-issuer, or enrol with a code")
	}
	user, err := s.opts.Tokens.User(ctx, e.Token)
	if err != nil {
		return nil, err
	}
	a, err := s.address(string(user), e)
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, a, e, "", nil)
}

// address is the device that is to be enrolled, if it may be.
func (s *Service) address(user string, e *wire.Enrollment) (subjects.Address, error) {
	a := subjects.Address{User: subjects.UserID(user), Device: e.Device}
	if err := a.Check(); err != nil {
		return a, wire.NewError(wire.BadMessage, err.Error())
	}
	if e.User != "" && e.User != subjects.UserID(user) {
		return a, wire.NewError(wire.IdentityMismatch, "the claim is of another user")
	}
	if s.opts.Revoked(a, e.PublicKey, s.opts.Now()) {
		return a, wire.NewError(wire.DeviceRevoked, "this key was revoked: make a new one")
	}
	return a, nil
}

// admit records the key, then signs for it. may, if there is one, refuses by what
// is recorded of the device at that moment.
func (s *Service) admit(
	ctx context.Context, a subjects.Address, e *wire.Enrollment, kind string, may func(*record) error,
) (*wire.Enrolled, error) {
	if err := s.room(ctx, a); err != nil {
		return nil, err
	}
	now := s.opts.Now().UTC()
	key := Key{PublicKey: e.PublicKey, Type: kind, Enrolled: now, Last: e.Time, Until: now.Add(s.opts.RenewFor)}
	if err := s.keys.add(ctx, a, key, may); err != nil {
		return nil, err
	}
	return s.sign(a, key)
}

// room refuses another device of a user who has enrolled too many.
func (s *Service) room(ctx context.Context, a subjects.Address) error {
	if r, _, err := s.keys.read(ctx, a); err != nil || len(r.Keys) > 0 {
		return err
	}
	n, err := s.keys.good(ctx, a.User)
	if err == nil && n >= s.opts.MaxDevices {
		err = wire.Errorf(wire.QueueFull, "%d devices of this user are enrolled, which is all there may be: one counts until its key can be renewed no more", n)
	}
	return err
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
