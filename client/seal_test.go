package client_test

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
	"github.com/rccs-io/rccs/wire"
)

func curveKey(t *testing.T) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKey(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// sealing are the options of a device with a new key.
func sealing(t *testing.T) client.Options {
	t.Helper()
	return client.Options{Seal: &client.Seal{Key: curveKey(t)}}
}

func secretTo(device string) wire.Envelope {
	e := wire.NewEnvelope("", "secret", []byte(`{"say": "opensesame<>"}`))
	e.ToDeviceID = device
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

func TestHomeSealedRoundTrip(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	opts := sealing(t)
	phone, desktop := h.device("alice/phone", opts), h.device("alice/desktop", sealing(t))
	plain := secretTo("desktop")
	plain.Payload = []byte(`"in the clear"`)
	if _, err := phone.Send(soon(t), plain); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	m, err := desktop.Receive(soon(t))
	if err != nil || m.Sealed || m.SealedBy != "" || string(m.Payload) != `"in the clear"` {
		t.Fatalf("what was not sealed came as %s, %v", m.Payload, err)
	}
	m, err = desktop.Receive(soon(t))
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
	h.startAt("ws://" + anyPort)
}

// TestHomeBrokenSealsAreDiscarded has a sender that changes what it sealed, as
// anybody on the way could.
func TestHomeBrokenSealsAreDiscarded(t *testing.T) {
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
		sealed, err := phone.Seal(soon(t), e)
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
		if _, err := phone.Send(soon(t), e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// The watch passes on what the phone sealed to it, and to itself, as its own.
	stolen := seal(secretTo("desktop"))
	if _, err := watch.Send(soon(t), stolen); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	m, err := desktop.Receive(soon(t))
	if err != nil || !m.Sealed || m.ID == stolen.ID {
		t.Fatalf("received %+v, %v; want the good one alone", m, err)
	}
	m.Ack()
	for range 7 {
		if why := await(t, "what is discarded", discarded); !errors.Is(why, client.ErrSealBroken) {
			t.Errorf("discarded because of %v", why)
		}
	}
	// All is acknowledged: nothing of it comes again.
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	if m, err := desktop.Receive(soon(t)); err != nil || !m.Sealed {
		t.Errorf("received %+v, %v", m, err)
	}
	_ = desktop.Close()
	if again := h.device("alice/desktop", opts); again.Session().Pending != 1 {
		t.Errorf("%d wait, want the one that was not acknowledged", again.Session().Pending)
	}
}

func TestHomeChangedKeyIsRefusedUntilAccepted(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	opts := sealing(t)
	opts.Seal.Pins = filepath.Join(t.TempDir(), "pins.json")
	phone := h.device("alice/phone", opts)
	desktop := h.device("alice/desktop", sealing(t))
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	_ = desktop.Close()
	anew := sealing(t)
	desktop = h.device("alice/desktop", anew)
	_ = phone.Close()
	phone = h.device("alice/phone", opts) // it remembers
	_, err := phone.SendSealed(soon(t), secretTo("desktop"))
	var changed *client.SealChangedError
	if !errors.Is(err, client.ErrSealChanged) || !errors.As(err, &changed) || changed.Device != "desktop" || changed.Now != publicKey(t, anew.Seal.Key) {
		t.Fatalf("sealed to a key that had changed: %v", err)
	}
	// What comes from it waits until the key is accepted.
	if _, err := desktop.SendSealed(soon(t), secretTo("phone")); err != nil {
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
	if m, err := phone.Receive(soon(t)); err != nil || m.SealedBy != changed.Now {
		t.Errorf("received %+v, %v", m, err)
	}
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(opts.Seal.Pins); err != nil || !strings.Contains(string(text), changed.Now) {
		t.Errorf("pinned %s, %v", text, err)
	}
}

// TestHomeFormerKeyOpensWhatWaited has a device that is given another key
// while a message waits for it.
func TestHomeFormerKeyOpensWhatWaited(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", sealing(t))
	opts := sealing(t)
	_ = h.device("alice/desktop", opts).Close()
	if _, err := phone.SendSealed(soon(t), secretTo("desktop")); err != nil {
		t.Fatal(err)
	}
	opts.Seal = &client.Seal{Key: curveKey(t), Former: []nkeys.KeyPair{opts.Seal.Key}}
	if m, err := h.device("alice/desktop", opts).Receive(soon(t)); err != nil || !m.Sealed {
		t.Errorf("received %+v, %v", m, err)
	}
}

func TestHomeKeysWithoutProofAreRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone := h.device("alice/phone", sealing(t))
	h.device("alice/old", client.Options{Capabilities: map[string]any{"supportsFileSync": true}})
	h.device("alice/older", client.Options{})
	h.device("alice/bare", client.Options{Capabilities: map[string]any{"sealKey": []string{publicKey(t, curveKey(t))}}})
	h.device("alice/watch", sealing(t))
	all, err := phone.Devices(soon(t))
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
		if _, err := phone.SendSealed(soon(t), secretTo(device)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", device, err, want)
		}
	}
	for name, e := range map[string]wire.Envelope{
		"for all": secretTo(""), "a handoff": {Type: "device_handoff", ToDeviceID: "watch", Payload: []byte("1")},
		"a request": {Type: wire.TypeRequest, ToDeviceID: "watch", Payload: []byte("1")}, "no payload": {Type: "x", ToDeviceID: "watch"},
	} {
		if _, err := phone.SendSealed(soon(t), e); err == nil {
			t.Errorf("sealed %s", name)
		}
	}
}

// TestHomeOldClientsAreUnaffected has a device that knows nothing of sealing.
func TestHomeOldClientsAreUnaffected(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	phone, old := h.device("alice/phone", sealing(t)), h.device("alice/old", client.Options{})
	if _, err := phone.Send(soon(t), secretTo("old")); err != nil {
		t.Fatal(err)
	}
	if m, err := old.Receive(soon(t)); err != nil || m.Sealed || string(m.Payload) != `{"say": "opensesame<>"}` {
		t.Errorf("received %+v, %v", m, err)
	}
	// An application's own payload of that look is left alone.
	own := secretTo("phone")
	own.Payload = []byte(`{"sealed":true,"box":"of tea"}`)
	if _, err := old.Send(soon(t), own); err != nil {
		t.Fatal(err)
	}
	if m, err := phone.Receive(soon(t)); err != nil || m.Sealed || string(m.Payload) != string(own.Payload) {
		t.Errorf("received %+v, %v", m, err)
	}
	if _, err := old.SendSealed(soon(t), secretTo("phone")); err == nil || !strings.Contains(err.Error(), "Options.Seal") {
		t.Errorf("sealed without a key: %v", err)
	}
}

func TestSealNeedsAKeyAndACredentialThatSigns(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	for name, seal := range map[string]*client.Seal{
		"no key": {}, "no curve key": {Key: user}, "a former that is none": {Key: curveKey(t), Former: []nkeys.KeyPair{nil}},
		"a file of pins that is a directory": {Key: curveKey(t), Pins: t.TempDir()},
	} {
		if _, err := client.Dial(soon(t), "ws://127.0.0.1:1", &client.Options{Token: "x", Seal: seal}); err == nil || !strings.Contains(err.Error(), "Seal.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	url := serve(t, func(p *peer) {
		c := wire.Challenge{Nonce: "n"}
		p.send(string(c.Append(nil, "s")))
		p.drain()
	})
	if _, err := client.Dial(soon(t), url, &client.Options{Token: "x", Seal: &client.Seal{Key: curveKey(t)}}); err == nil {
		t.Error("a token without a key published a key to seal to")
	}
}

// TestNonceCannotBeAKeyToSealTo has an edge that wants its own key signed.
func TestNonceCannotBeAKeyToSealTo(t *testing.T) {
	t.Parallel()
	url := serve(t, func(p *peer) {
		c := wire.Challenge{Nonce: "rccs seal key 1\nalice/phone\n" + publicKey(t, curveKey(t))}
		p.send(string(c.Append(nil, "s")))
		if e, ok := p.next(); ok {
			t.Errorf("the client answered %s", e.Payload)
		}
	})
	credentials := func(context.Context) (string, client.Signer, error) {
		return "jwt", func([]byte) ([]byte, error) {
			t.Error("the nonce was signed")
			return nil, errors.New("not that")
		}, nil
	}
	if _, err := client.Dial(soon(t), url, &client.Options{Credentials: credentials}); err == nil {
		t.Error("registered")
	}
}

func TestSealKeyFileIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "phone.xk")
	made, err := client.SealKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := os.Stat(path); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", s.Mode(), err)
	}
	read, err := client.SealKeyFile(path)
	if err != nil || publicKey(t, read) != publicKey(t, made) {
		t.Errorf("read another key, %v", err)
	}
	if err := os.WriteFile(path, []byte("SUAnothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SealKeyFile(path); err == nil {
		t.Error("read a key from nonsense")
	}
}
