package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rccs-io/rccs/subjects"
)

// A device's key follows from its name, and NATS servers refuse keys. So that
// all devices of a user can be refused, also those that were never seen, their
// names are written down with the keys when a credential is made for them.

// issuedFile has a line for each: until when its credential is good, in Unix
// seconds, a space, and the device's key of subjects.
const issuedFile = "default.issued"

func (k *Keystore) issuedFile() string {
	return filepath.Join(k.dir, tenantFile(k.tenant.Name, issuedFile))
}

// tidyAt is the size in bytes at which lines that are of no use any more are
// dropped, and again at each doubling.
const tidyAt = 8 << 20

// Issued writes down for which devices credentials are made. It is for one
// goroutine; any number of processes may have one.
type Issued struct {
	keys    *Keystore
	pending bytes.Buffer
}

// RecordIssued is for credentials that are made with these keys.
func (k *Keystore) RecordIssued() *Issued { return &Issued{keys: k} }

// Add notes a device, whose credential lasts as long as the options say.
func (i *Issued) Add(a subjects.Address, opts DeviceOptions) {
	life := opts.Expires
	if life == 0 {
		life = DefaultExpiry
	}
	_, _ = fmt.Fprintf(&i.pending, "%d %s\n", time.Now().Add(life).Unix()+1, a.Key())
}

// AddService notes a service, whose credential lasts as long as the options say.
func (i *Issued) AddService(name string, opts ServiceOptions) {
	until := int64(forEver)
	if opts.Expires > 0 {
		until = time.Now().Add(opts.Expires).Unix() + 1
	}
	_, _ = fmt.Fprintf(&i.pending, "%d %s\n", until, serviceEntry(name))
}

// forEver is until when a credential is good that does not expire.
const forEver = 1<<63 - 1

// serviceEntry is a service in the file, where a device has its key. An earlier
// version passes it over.
func serviceEntry(name string) subjects.Key {
	return subjects.Key(servicePrefix + subjects.Escape(name))
}

// readEntry is the revocation that would end what a line is about.
func readEntry(entry subjects.Key) (Revocation, bool) {
	if token, ok := strings.CutPrefix(string(entry), servicePrefix); ok {
		name, err := subjects.Unescape(token)
		return Revocation{Kind: RevokedService, Name: name}, err == nil
	}
	user, device, _ := strings.Cut(string(entry), ".")
	u, err := subjects.Unescape(user)
	d, errDevice := subjects.Unescape(device)
	if err != nil || errDevice != nil || u == "" || d == "" {
		return Revocation{}, false
	}
	return Revocation{Kind: RevokedDevice, Name: u + "/" + d}, true
}

// Flush writes what was noted to the disk. Credentials are to be given away only
// afterwards.
func (i *Issued) Flush() (err error) {
	if i.pending.Len() == 0 {
		return nil
	}
	unlock, err := lockKeys(i.keys.dir)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	defer unlock()
	f, err := os.OpenFile(i.keys.issuedFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("auth: write down for whom a credential is made: %w", err)
	}
	_, err = f.Write(i.pending.Bytes())
	size := int64(0)
	if info, statErr := f.Stat(); statErr == nil {
		size = info.Size()
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("auth: write down for whom a credential is made: %w", err)
	}
	before := size - int64(i.pending.Len())
	i.pending.Reset()
	for mark := int64(tidyAt); mark <= size; mark *= 2 {
		if before < mark {
			return i.tidy()
		}
	}
	return nil
}

// tidy keeps one line a device, and none of credentials that have ended.
func (i *Issued) tidy() error {
	until, err := i.keys.readIssued(func(subjects.Key) bool { return true })
	if err != nil {
		return err
	}
	var b bytes.Buffer
	now := time.Now().Unix()
	for key, end := range until {
		if end > now {
			_, _ = fmt.Fprintf(&b, "%d %s\n", end, key)
		}
	}
	if err := replaceFile(i.keys.dir, filepath.Base(i.keys.issuedFile()), b.Bytes()); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}

// readIssued is until when credentials of devices are good. A line that a crash
// cut short is passed over.
func (k *Keystore) readIssued(wanted func(subjects.Key) bool) (map[subjects.Key]int64, error) {
	f, err := os.Open(k.issuedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer func() { _ = f.Close() }()
	until := map[subjects.Key]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		end, name, _ := strings.Cut(lines.Text(), " ")
		seconds, err := strconv.ParseInt(end, 10, 64)
		if key := subjects.Key(name); err == nil && wanted(key) {
			if _, ok := readEntry(key); ok {
				until[key] = max(until[key], seconds)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("auth: %s: %w", issuedFile, err)
	}
	return until, nil
}

// Holders are the devices, as USER/DEVICE, and the services for which credentials
// were made with these keys that a revocation would end and that have not
// expired.
func (k *Keystore) Holders(r Revocation) (devices, services []string, err error) {
	until, err := k.readIssued(func(subjects.Key) bool { return true })
	if err != nil {
		return nil, nil, err
	}
	now := time.Now().Unix()
	for entry, end := range until {
		holder, ok := readEntry(entry)
		if !ok || end <= now || !r.covers(holder) {
			continue
		}
		if holder.Kind == RevokedService {
			services = append(services, holder.Name)
		} else {
			devices = append(devices, holder.Name)
		}
	}
	slices.Sort(devices)
	slices.Sort(services)
	return devices, services, nil
}

// covers reports whether r ends what a holder has, which is a device or a
// service.
func (r Revocation) covers(holder Revocation) bool {
	switch r.Kind {
	case RevokedAll:
		return true
	case RevokedUser:
		user, _, _ := strings.Cut(holder.Name, "/")
		return holder.Kind == RevokedDevice && user == r.Name
	case RevokedDevice, RevokedService:
	}
	return holder.Kind == r.Kind && holder.Name == r.Name
}

// IssuedTo are the keys of a user's devices for which credentials were made, with
// these keys, that have not ended.
func (k *Keystore) IssuedTo(user subjects.UserID) ([]string, error) {
	prefix := subjects.Escape(string(user)) + "."
	until, err := k.readIssued(func(key subjects.Key) bool { return strings.HasPrefix(string(key), prefix) })
	if err != nil {
		return nil, err
	}
	var all []string
	now := time.Now().Unix()
	for key, end := range until {
		if end <= now {
			continue
		}
		_, public, err := k.userKey("device " + string(key))
		if err != nil {
			return nil, err
		}
		all = append(all, public)
	}
	return all, nil
}
