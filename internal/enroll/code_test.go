package enroll_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/enroll"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func TestACodeGetsADeviceItsToken(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.device()
	got, err := d.enroll(wire.Enrollment{Code: p.code(`{"user":"alice","type":"mobile"}`), Device: "phone"})
	check(t, err)
	id, err := p.verifier.Verify(got.JWT, time.Now())
	check(t, err)
	if id.Address != alicePhone() || id.Type != "mobile" || id.UserKey != d.pub || id.Bearer {
		t.Errorf("identity %+v", id)
	}
	if life := time.Until(id.Expires); life < 23*time.Hour || life > 24*time.Hour {
		t.Errorf("good for %s, want a day", life)
	}
	if !got.Expires.Equal(id.Expires) && got.Expires.Sub(id.Expires).Abs() > time.Second {
		t.Errorf("told %s, the token says %s", got.Expires, id.Expires)
	}
}

func TestACodeIsShortAndTypedAsPeopleDo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i, as := range []func(string) string{
		strings.ToLower,
		func(s string) string { return strings.ReplaceAll(s, "-", " ") },
		func(s string) string { return strings.ReplaceAll(s, "-", "") },
		func(s string) string { return strings.NewReplacer("0", "O", "1", "l").Replace(s) },
	} {
		code := p.code(`{"user":"alice"}`)
		if !regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$`).MatchString(code) {
			t.Fatalf("code %q", code)
		}
		if _, err := p.device().enroll(wire.Enrollment{Code: as(code), Device: subjects.DeviceID("phone-" + strconv.Itoa(i))}); err != nil {
			t.Errorf("%q for %q: %v", as(code), code, err)
		}
	}
}

func TestACodeIsUsedOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	code := p.code(`{"user":"alice"}`)
	_, err := p.device().enroll(wire.Enrollment{Code: code, Device: "phone"})
	check(t, err)
	_, err = p.device().enroll(wire.Enrollment{Code: code, Device: "phone"})
	refused(t, err, wire.AuthError)
}

func TestOfFiftyWhoRaceForACodeOneWins(t *testing.T) {
	t.Parallel()
	const racers = 50
	p := newPlace(t)
	services := []*enroll.Service{p.service, p.another(), p.another()}
	for range 5 {
		code := p.code(`{"user":"alice","device":"phone"}`)
		var won, lost atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range racers {
			// Each from an address of its own: the throttle is not what is raced for.
			body, from := p.device().signed(wire.PurposeEnroll, wire.Enrollment{Code: code, Device: "phone"}), "racer-"+string(rune('A'+i))
			wg.Go(func() {
				<-begin
				_, err := services[i%len(services)].Enroll(t.Context(), body, from)
				switch {
				case err == nil:
					won.Add(1)
				case wire.AsError(err).Code == wire.AuthError:
					lost.Add(1)
				default:
					t.Errorf("neither won nor lost: %v", err)
				}
			})
		}
		close(begin)
		wg.Wait()
		if won.Load() != 1 || lost.Load() != racers-1 {
			t.Fatalf("%d won, %d lost", won.Load(), lost.Load())
		}
		check(t, p.forget())
	}
}

// forget makes room for more keys of the device.
func (p *place) forget() error {
	kv, err := p.js.KeyValue(p.t.Context(), layout.BucketEnrolled)
	if err != nil {
		return err
	}
	return kv.Purge(p.t.Context(), layout.DeviceEntry(alicePhone().Key()))
}

func TestACodeExpires(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	code := p.code(`{"user":"alice","seconds":60}`)
	p.clock.pass(61 * time.Second)
	_, err := p.device().enroll(wire.Enrollment{Code: code, Device: "phone"})
	refused(t, err, wire.AuthError)
}

func TestACodeForADeviceIsForNoOther(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	code := p.code(`{"user":"alice","device":"phone"}`)
	_, err := p.device().enroll(wire.Enrollment{Code: code, Device: "laptop"})
	refused(t, err, wire.IdentityMismatch)
	got, err := p.device().enroll(wire.Enrollment{Code: code})
	check(t, err)
	if got.Device != "phone" {
		t.Errorf("enrolled as %q", got.Device)
	}
}

func TestWrongCodesAreThrottledPerAddress(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	good := p.code(`{"user":"alice"}`)
	guess := func(from, code string) error {
		_, err := p.service.Enroll(t.Context(), p.device().signed(wire.PurposeEnroll, wire.Enrollment{Code: code, Device: "phone"}), from)
		return err
	}
	for range 10 {
		refused(t, guess("2001:db8::1", "WRNG-C0DE"), wire.AuthError)
	}
	err := guess("2001:db8::ffff", good) // the same network, and a good code
	refused(t, err, wire.RateLimited)
	if wait := wire.AsError(err).RetryAfter; wait <= 0 || wait > 6*time.Second {
		t.Errorf("told to wait %s", wait)
	}
	check(t, guess("2001:db8:1::1", good))
	p.clock.pass(time.Minute)
	refused(t, guess("2001:db8::1", "WRNG-C0DE"), wire.AuthError)
}

func TestWrongCodesAreThrottledInAll(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	body := p.device().signed(wire.PurposeEnroll, wire.Enrollment{Code: "WRNG-C0DE", Device: "phone"})
	for i := range 2000 {
		_, err := p.service.Enroll(t.Context(), body, "guesser-"+time.Duration(i).String())
		if wire.AsError(err).Code == wire.RateLimited {
			if i < 600 {
				t.Fatalf("throttled after %d", i)
			}
			return
		}
	}
	t.Fatal("2,000 addresses may guess as they like")
}

func TestACodeIsStoredHashed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	code := p.code(`{"user":"alice"}`)
	kv, err := p.js.KeyValue(t.Context(), layout.BucketCodes)
	check(t, err)
	keys, err := kv.Keys(t.Context())
	check(t, err)
	for _, key := range keys {
		entry, err := kv.Get(t.Context(), key)
		check(t, err)
		for _, form := range []string{code, strings.ReplaceAll(code, "-", "")} {
			if strings.Contains(key, form) || strings.Contains(string(entry.Value()), form) {
				t.Errorf("the code is in the bucket: %s %s", key, entry.Value())
			}
		}
	}
	if len(keys) != 1 {
		t.Errorf("%d entries", len(keys))
	}
}

func TestBadCodesAreNotMade(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, ask := range []string{``, `[]`, `{}`, `{"user":"a/b"}`, `{"user":"alice","seconds":-1}`, `{"user":"alice","seconds":86401}`} {
		_, err := p.service.NewCode(t.Context(), []byte(ask))
		refused(t, err, wire.BadMessage)
	}
}

func TestAProofIsNeededOfTheKey(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d, other := p.device(), p.device()
	code := p.code(`{"user":"alice"}`)
	ask := wire.Enrollment{Code: code, Device: "phone"}

	stolen := ask
	stolen.PublicKey = other.pub
	_, err := d.enroll(stolen)
	refused(t, err, wire.AuthError)

	_, err = p.service.Enroll(t.Context(), d.signed(wire.PurposeRenew, ask), "192.0.2.1")
	refused(t, err, wire.AuthError) // signed for something else

	var s wire.SignedRequest
	check(t, json.Unmarshal(d.signed(wire.PurposeEnroll, ask), &s))
	laptop, err := (&wire.Enrollment{Code: code, Device: "laptop", PublicKey: d.pub, Time: time.Now()}).Encode()
	check(t, err)
	s.Request = laptop.Request
	body, err := json.Marshal(s)
	check(t, err)
	_, err = p.service.Enroll(t.Context(), body, "192.0.2.1")
	refused(t, err, wire.AuthError) // changed after it was signed

	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		ask.Time = time.Now().Add(off)
		_, err = d.enroll(ask)
		refused(t, err, wire.AuthError)
	}
	ask.Time = time.Now().Add(-4 * time.Minute)
	_, err = d.enroll(ask)
	check(t, err)
}

func TestARevokedKeyIsNotEnrolledAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.device()
	got, err := d.enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "phone"})
	check(t, err)
	p.revoke()
	if _, err := p.verifier.Verify(got.JWT, time.Now()); err == nil {
		t.Error("the token is still good")
	}
	_, err = d.enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "phone"})
	refused(t, err, wire.DeviceRevoked)
	fresh, err := p.device().enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "phone"})
	check(t, err)
	_, err = p.verifier.Verify(fresh.JWT, time.Now())
	check(t, err)
}

// revoke revokes alice's phone, with the keys that are recorded.
func (p *place) revoke() {
	p.t.Helper()
	own, err := enroll.Keys(p.t.Context(), p.js, "alice", "phone")
	check(p.t, err)
	r := auth.Revocation{Kind: auth.RevokedDevice, Name: "alice/phone", At: time.Now()}
	account, err := p.keys.RevokeMany(r, auth.Keys{Own: own})
	check(p.t, err)
	check(p.t, p.verifier.Update(account.JWT))
}

// A code that names no device lets in a new one, and nobody in the place of one
// that is there.
func TestACodeWithoutADeviceTakesNobodysPlace(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	owner := p.device()
	_, err := owner.enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "phone"})
	check(t, err)
	code := p.code(`{"user":"alice"}`)
	_, err = p.device().enroll(wire.Enrollment{Code: code, Device: "phone"})
	refused(t, err, wire.Conflict)
	_, err = owner.enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "phone"}) // a repeat
	check(t, err)
	_, err = p.device().enroll(wire.Enrollment{Code: code, Device: "tablet"}) // it stayed good
	check(t, err)
	_, err = p.device().enroll(wire.Enrollment{Code: code, Device: "watch"})
	refused(t, err, wire.AuthError)
	_, err = p.device().enroll(wire.Enrollment{Code: p.code(`{"user":"alice","device":"phone"}`)})
	check(t, err)

	// A device that registered with a credential of the operator's is there, too.
	kv, err := p.js.KeyValue(t.Context(), layout.BucketDevices)
	check(t, err)
	desk := subjects.Address{User: "alice", Device: "desk"}
	_, err = kv.Put(t.Context(), layout.DeviceEntry(desk.Key()), []byte(`{}`))
	check(t, err)
	_, err = p.device().enroll(wire.Enrollment{Code: p.code(`{"user":"alice"}`), Device: "desk"})
	refused(t, err, wire.Conflict)
}

// Of many who ask for one name at once, with codes that do not say it, one gets
// it. The codes of the others stay good.
func TestOfManyThatTakeANewNameOneGetsIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const many = 8
	codes := make([]string, many)
	for i := range codes {
		codes[i] = p.code(`{"user":"alice"}`)
	}
	errs := make([]error, many)
	var all sync.WaitGroup
	for i := range many {
		d := p.device()
		body := d.signed(wire.PurposeEnroll, wire.Enrollment{Code: codes[i], Device: "phone"})
		all.Go(func() {
			_, errs[i] = p.service.Enroll(t.Context(), body, "192.0.2."+strconv.Itoa(i))
		})
	}
	all.Wait()
	in := 0
	for i, err := range errs {
		if err == nil {
			in++
			continue
		}
		refused(t, err, wire.Conflict)
		_, err = p.device().enroll(wire.Enrollment{Code: codes[i], Device: subjects.DeviceID("watch " + strconv.Itoa(i))})
		check(t, err)
	}
	if in != 1 {
		t.Errorf("%d devices are called phone", in)
	}
}

// What is kept of each device lies where messages take no room, so a user who
// enrols without end is stopped, and other users are not. Those who are enrolled
// enrol again; one that is not renewed in time makes room.
func TestAUserEnrolsSoManyDevicesAndNoMore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const most = 5
	p.service = p.with(nil, most)
	enrol := func(d *device, user, name string) error {
		_, err := d.enroll(wire.Enrollment{Code: p.code(`{"user":"` + user + `"}`), Device: subjects.DeviceID(name)})
		return err
	}
	first := p.device()
	check(t, enrol(first, "alice", "d0"))
	for n := range most - 1 {
		check(t, enrol(p.device(), "alice", fmt.Sprint("d", n+1)))
	}
	full := p.code(`{"user":"alice"}`)
	_, err := p.device().enroll(wire.Enrollment{Code: full, Device: "more"})
	refused(t, err, wire.QueueFull)
	_, err = first.enroll(wire.Enrollment{Code: full, Device: "d0", Time: p.clock.now().Add(time.Millisecond)})
	check(t, err) // the code was not used up
	check(t, enrol(p.device(), "bob", "more"))
	p.clock.pass(time.Second)
	check(t, enrol(first, "alice", "d0"))
	p.clock.pass(enroll.DefaultRenewFor + time.Hour)
	check(t, enrol(p.device(), "alice", "more"))
}
