package subjects

import (
	"fmt"
	"strings"
)

// UserID names a person inside a tenant. It has no '/'.
type UserID string

// DeviceID names one device of a user. It may contain '/'.
type DeviceID string

// SessionID names one live attachment of a device to an edge.
type SessionID string

// Address is a device of a user: the claim name of its credential, split.
type Address struct {
	User   UserID
	Device DeviceID
}

// ParseAddress reads USER/DEVICE, split at the first '/'. Both halves must
// pass [CheckName]; the error wraps [ErrName].
func ParseAddress(s string) (Address, error) {
	user, device, ok := strings.Cut(s, "/")
	if !ok {
		return Address{}, fmt.Errorf("%w: %q is not USER/DEVICE", ErrName, s)
	}
	a := Address{User: UserID(user), Device: DeviceID(device)}
	return a, a.Check()
}

// Check reports whether both names may be used: see [CheckUser] and
// [CheckDevice].
func (a Address) Check() error {
	if err := CheckUser(a.User); err != nil {
		return err
	}
	return CheckDevice(a.Device)
}

// String is USER/DEVICE, the inverse of [ParseAddress].
func (a Address) String() string { return string(a.User) + "/" + string(a.Device) }

// Key is the address as it stands in subjects: "<user>.<device>", both
// escaped. It is the map key for a device everywhere, because it can be cut
// out of a subject without decoding.
type Key string

// Key returns the address in its subject form.
func (a Address) Key() Key {
	return Key(a.appendKey(make([]byte, 0, len(a.User)+len(a.Device)+1)))
}

func (a Address) appendKey(b []byte) []byte {
	b = append(AppendEscape(b, string(a.User)), '.')
	return AppendEscape(b, string(a.Device))
}

// Address decodes the key. The error wraps [ErrName] when k was not made by
// [Address.Key].
func (k Key) Address() (Address, error) {
	user, device, ok := strings.Cut(string(k), ".")
	if !ok {
		return Address{}, fmt.Errorf("subjects: key %q: %w", string(k), ErrName)
	}
	u, err := Unescape(user)
	if err != nil {
		return Address{}, err
	}
	d, err := Unescape(device)
	if err != nil {
		return Address{}, err
	}
	a := Address{User: UserID(u), Device: DeviceID(d)}
	return a, a.Check()
}
