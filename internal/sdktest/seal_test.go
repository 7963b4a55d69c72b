package sdktest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

func curveKey(t *testing.T) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateCurveKeys()
	return testkit.Must(t, key, err)
}

func publicKey(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	public, err := key.PublicKey()
	return testkit.Must(t, public, err)
}

// sealing are the options of a device with a new key.
func sealing(t *testing.T) client.Options {
	t.Helper()
	return client.Options{Seal: &client.Seal{Key: curveKey(t)}}
}

func secretTo(device string) wire.Envelope {
	e := wire.NewEnvelope("", "secret", []byte(`{"say": "opensesame<>"}`))
	e.ToDeviceID = subjects.DeviceID(device)
	return e
}

// stored counts in how many files of the node's data a text stands.
func (h *home) stored(text string) (files int) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go while the node runs
		}
		if raw, err := os.ReadFile(path); err == nil && bytes.Contains(raw, []byte(text)) {
			files++
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return files
}

func TestSealedRoundTrip(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	opts := sealing(t)
	phone, desktop := h.device("alice/phone", opts), h.device("alice/desktop", sealing(t))
	plain := secretTo("desktop")
	plain.Payload = []byte(`"in the clear"`)
	if _, err := phone.Send(testkit.Soon(t), plain); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	m, err := desktop.Receive(testkit.Soon(t))
	if err != nil || m.Sealed || m.SealedBy != "" || string(m.Payload) != `"in the clear"` {
		t.Fatalf("what was not sealed came as %s, %v", m.Payload, err)
	}
	m, err = desktop.Receive(testkit.Soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if !m.Sealed || m.SealedBy != publicKey(t, opts.Seal.Key) || string(m.Payload) != `{"say": "opensesame<>"}` || m.Type != "secret" {
		t.Errorf("received %+v", m.Envelope)
	}
	h.stop() // all is written
	if h.stored("in the clear") == 0 {
		t.Error("what is not sealed is not found in the store: the search proves nothing")
	}
	if n := h.stored("opensesame"); n > 0 {
		t.Errorf("the secret stands in %d files", n)
	}
	h.startAt(nodeURL(h.node))
}

// TestBrokenSealsAreDiscarded has a sender that changes what it sealed, as
// anybody on the way could.
func TestBrokenSealsAreDiscarded(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", sealing(t))
	watch := h.device("alice/watch", sealing(t))
	discarded := make(chan error, 16)
	opts := sealing(t)
	opts.OnDiscard = func(m *client.Message, why error) {
		if m.Sealed || !strings.Contains(string(m.Payload), `"box"`) {
			t.Errorf("discarded opened: %s", m.Payload)
		}
		discarded <- why
	}
	desktop := h.device("alice/desktop", opts)
	seal := func(e wire.Envelope) wire.Envelope {
		t.Helper()
		sealed, err := phone.Seal(testkit.Soon(t), e)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	box := func(e wire.Envelope, change func(map[string]string)) wire.Envelope {
		t.Helper()
		var p map[string]map[string]string
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			t.Fatal(err)
		}
		change(p["sealed"])
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		e.Payload = raw
		return e
	}
	tampered := box(seal(secretTo("desktop")), func(b map[string]string) {
		middle := len(b["box"]) / 2
		other := "A"
		if b["box"][middle] == 'A' {
			other = "B"
		}
		b["box"] = b["box"][:middle] + other + b["box"][middle+1:]
	})
	noText := box(seal(secretTo("desktop")), func(b map[string]string) { b["box"] = "%" })
	noSender := box(seal(secretTo("desktop")), func(b map[string]string) { b["from"] = "X" })
	forAnother := seal(secretTo("watch"))
	forAnother.ToDeviceID = "desktop"
	retyped := seal(secretTo("desktop"))
	retyped.Type = "approve"
	renamed := seal(secretTo("desktop"))
	renamed.ID = "another"
	for name, e := range map[string]wire.Envelope{
		"tampered": tampered, "no base64": noText, "no sender": noSender, "for another": forAnother, "retyped": retyped, "renamed": renamed,
	} {
		if _, err := phone.Send(testkit.Soon(t), e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// The watch passes on what the phone sealed to it, and to itself, as its own.
	stolen := seal(secretTo("desktop"))
	if _, err := watch.Send(testkit.Soon(t), stolen); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	m, err := desktop.Receive(testkit.Soon(t))
	if err != nil || !m.Sealed || m.ID == stolen.ID {
		t.Fatalf("received %+v, %v; want the good one alone", m, err)
	}
	m.Ack()
	for range 7 {
		if why := testkit.Await(t, "what is discarded", discarded); !errors.Is(why, client.ErrSealBroken) {
			t.Errorf("discarded because of %v", why)
		}
	}
	// All is refused: nothing of it comes again.
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	if m, err := desktop.Receive(testkit.Soon(t)); err != nil || !m.Sealed {
		t.Errorf("received %+v, %v", m, err)
	}
	_ = desktop.Close()
	if again := h.device("alice/desktop", opts); again.Session().Pending != 1 {
		t.Errorf("%d wait, want the one that was not acknowledged", again.Session().Pending)
	}
}

func TestChangedKeyIsRefusedUntilAccepted(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	opts := sealing(t)
	opts.Seal.Pins = filepath.Join(t.TempDir(), "pins.json")
	phone := h.device("alice/phone", opts)
	desktop := h.device("alice/desktop", sealing(t))
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	_ = desktop.Close()
	anew := sealing(t)
	desktop = h.device("alice/desktop", anew)
	_ = phone.Close()
	phone = h.device("alice/phone", opts) // it remembers
	_, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop"))
	var changed *client.SealChangedError
	if !errors.Is(err, client.ErrSealChanged) || !errors.As(err, &changed) || changed.Device != "desktop" || changed.Now != publicKey(t, anew.Seal.Key) {
		t.Fatalf("sealed to a key that had changed: %v", err)
	}
	// What comes from it waits until the key is accepted.
	if _, err := desktop.SendSealed(testkit.Soon(t), secretTo("phone")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if m, err := phone.Receive(ctx); err == nil {
		t.Fatalf("handed on %+v", m)
	}
	if err := phone.AcceptSealKey(changed.Device, "nothing"); err == nil {
		t.Error("accepted nothing")
	}
	if err := phone.AcceptSealKey(changed.Device, changed.Now); err != nil {
		t.Fatal(err)
	}
	if m, err := phone.Receive(testkit.Soon(t)); err != nil || m.SealedBy != changed.Now {
		t.Errorf("received %+v, %v", m, err)
	}
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(opts.Seal.Pins); err != nil || !strings.Contains(string(text), changed.Now) {
		t.Errorf("pinned %s, %v", text, err)
	}
}

// TestFormerKeyOpensWhatWaited has a device that is given another key
// while a message waits for it.
func TestFormerKeyOpensWhatWaited(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", sealing(t))
	opts := sealing(t)
	_ = h.device("alice/desktop", opts).Close()
	if _, err := phone.SendSealed(testkit.Soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	opts.Seal = &client.Seal{Key: curveKey(t), Former: []nkeys.KeyPair{opts.Seal.Key}}
	if m, err := h.device("alice/desktop", opts).Receive(testkit.Soon(t)); err != nil || !m.Sealed {
		t.Errorf("received %+v, %v", m, err)
	}
}

func TestKeysWithoutProofAreRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", sealing(t))
	h.device("alice/old", client.Options{Capabilities: map[string]any{"supportsFileSync": true}})
	h.device("alice/older", client.Options{})
	h.device("alice/bare", client.Options{Capabilities: map[string]any{"sealKey": []string{publicKey(t, curveKey(t))}}})
	h.device("alice/watch", sealing(t))
	all, err := phone.Devices(testkit.Soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range all { // another's proof, under one's own name
		if all[i].ID == "watch" {
			var stolen map[string]any
			if err := json.Unmarshal(all[i].Capabilities, &stolen); err != nil {
				t.Fatal(err)
			}
			h.device("alice/thief", client.Options{Capabilities: stolen})
		}
	}
	for device, want := range map[string]error{
		"old": client.ErrNoSealKey, "older": client.ErrNoSealKey, "bare": client.ErrSealUnproved, "thief": client.ErrSealUnproved,
		"nobody": wire.DeviceNotFound,
	} {
		if _, err := phone.SendSealed(testkit.Soon(t), secretTo(device)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", device, err, want)
		}
	}
	for name, e := range map[string]wire.Envelope{
		"for all": secretTo(""), "a handoff": {Type: "device_handoff", ToDeviceID: "watch", Payload: []byte("1")},
		"a request": {Type: wire.TypeRequest, ToDeviceID: "watch", Payload: []byte("1")}, "no payload": {Type: "x", ToDeviceID: "watch"},
	} {
		if _, err := phone.SendSealed(testkit.Soon(t), e); err == nil {
			t.Errorf("sealed %s", name)
		}
	}
}

// TestOldClientsAreUnaffected has a device that knows nothing of sealing.
func TestOldClientsAreUnaffected(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone, old := h.device("alice/phone", sealing(t)), h.device("alice/old", client.Options{})
	if _, err := phone.Send(testkit.Soon(t), secretTo("old")); err != nil {
		t.Fatal(err)
	}
	if m, err := old.Receive(testkit.Soon(t)); err != nil || m.Sealed || string(m.Payload) != `{"say": "opensesame<>"}` {
		t.Errorf("received %+v, %v", m, err)
	}
	// An application's own payload of that look is left alone.
	own := secretTo("phone")
	own.Payload = []byte(`{"sealed":true,"box":"of tea"}`)
	if _, err := old.Send(testkit.Soon(t), own); err != nil {
		t.Fatal(err)
	}
	if m, err := phone.Receive(testkit.Soon(t)); err != nil || m.Sealed || string(m.Payload) != string(own.Payload) {
		t.Errorf("received %+v, %v", m, err)
	}
	if _, err := old.SendSealed(testkit.Soon(t), secretTo("phone")); err == nil || !strings.Contains(err.Error(), "Options.Seal") {
		t.Errorf("sealed without a key: %v", err)
	}
}
