package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// Seal lets a device seal messages to the user's other devices, and open what
// they sealed to it.
type Seal struct {
	// Key is the device's curve key. See [SealKeyFile].
	Key nkeys.KeyPair
	// Former are curve keys that the device had before: what was sealed to one
	// of them and still waits is opened too.
	Former []nkeys.KeyPair
	// Pins is a file that keeps the others' keys, as this device saw them first,
	// with the name and the issuer in its own first credential. It is made when
	// there is none; "" keeps all that in memory. One client at a time can use a
	// file.
	Pins string
	// Issuers are public keys whose credentials are trusted to say whose key a
	// key is, beside the issuer of this device's own credential.
	Issuers []string
}

// ErrSealChanged matches every [*SealChangedError] in errors.Is.
var ErrSealChanged = errors.New("client: the key to seal to has changed")

// SealChangedError says that a device publishes another key than the one that
// is pinned. It was set up anew, or somebody is in its place: ask its owner to
// compare the key, and then call [Client.AcceptSealKey].
type SealChangedError struct {
	Device      subjects.DeviceID
	Pinned, Now string // public curve keys
}

// Error implements error.
func (e *SealChangedError) Error() string {
	return fmt.Sprintf("%v: device %s had %s and now has %s: compare it with the device, then accept it with Client.AcceptSealKey",
		ErrSealChanged, e.Device, e.Pinned, e.Now)
}

// Is makes errors.Is(err, ErrSealChanged) work.
func (e *SealChangedError) Is(target error) bool { return target == ErrSealChanged }

// typeHandoff is routed to its recipient and back to its sender.
const typeHandoff = "device_handoff"

// errNoSeal is what a client without Options.Seal answers.
var errNoSeal = errors.New("client: set Options.Seal to use sealed messages")

// SealKeyFile reads a curve key from a file. When there is none it makes a key
// and the file, which only its owner can read.
func SealKeyFile(path string) (nkeys.KeyPair, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSealKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("client: key to seal to: %w", err)
	}
	key, err := nkeys.FromCurveSeed(bytes.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("client: key to seal to: %s holds no seed of a curve key (SX…): %w", path, err)
	}
	return key, nil
}

func newSealKeyFile(path string) (nkeys.KeyPair, error) {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("client: key to seal to: %w", err)
	}
	_, err = f.Write(append(seed, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(path) // half a key is none
		return nil, fmt.Errorf("client: key to seal to: %w", err)
	}
	return key, nil
}

// sealing is what a client knows of its own key and the others'.
type sealing struct {
	// Static after construction.
	key     nkeys.KeyPair
	keys    []nkeys.KeyPair // key and the former ones
	pins    *pins
	issuers []string

	mu     sync.Mutex
	own    string // USER/DEVICE, from the credential used last
	issuer string // of that credential
}

func newSealing(o *Seal) (*sealing, error) {
	if o == nil {
		return nil, nil
	}
	keys := append([]nkeys.KeyPair{o.Key}, o.Former...)
	for _, key := range keys {
		if key == nil {
			return nil, errors.New("client: Seal.Key is needed: make one with SealKeyFile")
		}
		public, err := key.PublicKey()
		if err == nil && !nkeys.IsValidPublicCurveKey(public) {
			err = errors.New("not a curve key")
		}
		if err == nil {
			_, err = key.Seed()
		}
		if err != nil {
			return nil, fmt.Errorf("client: Seal.Key: %w: make one with SealKeyFile", err)
		}
	}
	p, err := openPins(o.Pins)
	if err != nil {
		return nil, err
	}
	return &sealing{key: o.Key, keys: keys, pins: p, issuers: slices.Clone(o.Issuers)}, nil
}

// publish is the value of the capability, for a registration with token.
func (s *sealing) publish(token string, sign Signer) ([]string, error) {
	published, err := publishedKey(s.key, token, sign)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, err
	}
	if err := s.recognise(claims.Name, claims.Issuer); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own, s.issuer = claims.Name, claims.Issuer
	return published, nil
}

// What is pinned beside the others' keys. Names of devices have a slash.
const (
	pinnedName   = "name"   // of this device
	pinnedIssuer = "issuer" // of its credential
)

// recognise refuses a credential that is not like those before it. One that was
// renewed comes through an edge, which could have put its own in the place: its
// issuer would be trusted, and its name decide whose keys are looked for.
func (s *sealing) recognise(name, issuer string) error {
	before, err := s.pins.first(pinnedName, name)
	if err != nil {
		return err
	}
	if before != name {
		return fmt.Errorf("client: the credential is that of %s, and Seal.Pins were made by %s: give each device a file of its own", name, before)
	}
	if before, err = s.pins.first(pinnedIssuer, issuer); err != nil {
		return err
	}
	if before != issuer && !slices.Contains(s.issuers, issuer) {
		return fmt.Errorf("client: the credential was issued by %s, and the first one by %s: when that is right, add it to Seal.Issuers", issuer, before)
	}
	return nil
}

// name is USER/DEVICE of a device of the same user.
func (s *sealing) name(device subjects.DeviceID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, _, _ := bytes.Cut([]byte(s.own), []byte{'/'})
	return string(user) + "/" + string(device)
}

// trusted are whose credentials are believed.
func (s *sealing) trusted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{s.issuer}, s.issuers...)
}

// SealKey is the public curve key of a device of the user, for its owner to
// compare with what that device shows. It is read from the device's record,
// checked, and pinned when it is the first. The error wraps [ErrNoSealKey],
// [ErrSealUnproved] or [ErrSealChanged], or is wire.DeviceNotFound.
func (c *Client) SealKey(ctx context.Context, device subjects.DeviceID) (string, error) {
	s := c.opts.sealing
	if s == nil {
		return "", errNoSeal
	}
	now, err := c.publishedBy(ctx, device)
	if err != nil {
		return "", err
	}
	pinned, err := s.pins.first(s.name(device), now)
	if err == nil && pinned != now {
		err = &SealChangedError{Device: device, Pinned: pinned, Now: now}
	}
	if err != nil {
		return "", err
	}
	return now, nil
}

// publishedBy is the proved key in a device's record, pinned or not.
func (c *Client) publishedBy(ctx context.Context, device subjects.DeviceID) (string, error) {
	all, err := c.Devices(ctx)
	if err != nil {
		return "", err
	}
	for i := range all {
		if all[i].ID != device {
			continue
		}
		s := c.opts.sealing
		key, err := provedKey(all[i].Capabilities, s.name(device), s.trusted())
		if err != nil {
			return "", fmt.Errorf("device %s: %w", device, err)
		}
		return key, nil
	}
	return "", wire.Errorf(wire.DeviceNotFound, "there is no device %q", device)
}

// AcceptSealKey pins a key in place of the one that was pinned, as a
// [*SealChangedError] asks. It takes the key that was compared, so that no
// other can come in between. Messages that waited for it are handed on within
// a minute.
func (c *Client) AcceptSealKey(device subjects.DeviceID, key string) error {
	s := c.opts.sealing
	switch {
	case s == nil:
		return errNoSeal
	case !nkeys.IsValidPublicCurveKey(key):
		return fmt.Errorf("client: %q is no public curve key (X…)", key)
	case s.name(device) == "/"+string(device):
		return errors.New("client: the device has not connected yet, so that it is not known whose key to accept")
	}
	return s.pins.set(s.name(device), key)
}

// Seal is the message with its payload sealed to the one device that it is
// for; only that device can read it. The id, the type, and all else but the
// payload stay readable for the servers. It asks the edge for the device's key
// each time, so that a message is not sealed to a key that is no more.
//
// A message for several devices is refused: seal one for each. The error also
// wraps what [Client.SealKey] answers.
func (c *Client) Seal(ctx context.Context, e wire.Envelope) (wire.Envelope, error) {
	to := e.ToDeviceID
	if to == "" && e.To != nil {
		to = e.To.Device
	}
	switch {
	case c.opts.sealing == nil:
		return e, errNoSeal
	case to == "":
		return e, errors.New("client: a sealed message is for one device: name it with To, and send one for each of several")
	case e.Type == typeHandoff:
		return e, errors.New("client: a device_handoff cannot be sealed, its copy for the sender could not be opened: use another type")
	case wire.IsControl(e.Type):
		return e, fmt.Errorf("client: a %s cannot be sealed, only application messages can", e.Type)
	case !wire.Embeddable(e.Payload):
		return e, wire.NewError(wire.BadMessage, "payload must be one JSON value").For(e.ID)
	}
	key, err := c.SealKey(ctx, to)
	if err != nil {
		return e, err
	}
	if e.ID == "" {
		e.ID = newID()
	}
	content := sealedContent{
		ID: e.ID, Type: e.Type, From: string(c.Session().Device), To: string(to), Payload: e.Payload,
	}
	payload, err := sealContent(c.opts.sealing.key, key, &content)
	if err != nil {
		return e, fmt.Errorf("client: seal %s %s: %w", e.Type, e.ID, err)
	}
	e.Payload = payload
	return e, nil
}

// SendSealed is [Client.Seal] and [Client.Send].
func (c *Client) SendSealed(ctx context.Context, e wire.Envelope) (Accepted, error) {
	sealed, err := c.Seal(ctx, e)
	if err != nil {
		return Accepted{}, err
	}
	return c.Send(ctx, sealed)
}

// sealPatience bounds the question whose key sealed a message.
const sealPatience = 10 * time.Second

// unseal opens a message that is sealed; false when it must not be handed on
// now. One that can never be opened or believed is discarded. One whose key
// has changed, or cannot be checked now, stays in the inbox and is tried again
// as one that a handler could not deal with.
func (c *Client) unseal(ctx context.Context, m *Message) bool {
	if c.opts.sealing == nil || m.Sealed || wire.IsControl(m.Type) {
		return true
	}
	box := sealedIn(m.Payload)
	if box == nil {
		return true
	}
	payload, err := box.open(c.opts.sealing.keys, string(c.Session().Device), &m.Envelope)
	if err == nil {
		err = c.believe(ctx, m.FromDeviceID, box.From)
	}
	switch {
	case err == nil:
		m.Payload, m.Sealed, m.SealedBy = payload, true, box.From
		return true
	case errors.Is(err, ErrSealBroken):
		c.discard(m, err)
		m.Reject("the sealed message cannot be opened or believed") // no more: its sender may be anybody
	default:
		c.opts.Logger.Warn("sealed message not handed on, it is tried again", "from", m.FromDeviceID, "id", m.ID, "seq", m.Seq, "err", err)
		c.in.retry(m)
	}
	return false
}

// believe reports whether key is that of the device: the pinned one or, when
// there is none, the one in its record, which it pins.
func (c *Client) believe(ctx context.Context, device subjects.DeviceID, key string) error {
	s := c.opts.sealing
	if s.pins.get(s.name(device)) == key {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sealPatience)
	defer cancel()
	now, err := c.publishedBy(ctx, device)
	switch {
	case errors.Is(err, ErrNoSealKey), errors.Is(err, ErrSealUnproved), errors.Is(err, wire.DeviceNotFound):
		return fmt.Errorf("%w: %w", ErrSealBroken, err)
	case err != nil:
		return err
	case now != key:
		return fmt.Errorf("%w: it was sealed by %s, and device %s has %s", ErrSealBroken, key, device, now)
	}
	pinned, err := s.pins.first(s.name(device), now)
	if err == nil && pinned != now {
		err = &SealChangedError{Device: device, Pinned: pinned, Now: now}
	}
	return err
}
