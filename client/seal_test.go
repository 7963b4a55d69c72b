package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
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
		if _, err := client.Dial(testkit.Soon(t), "ws://127.0.0.1:1", &client.Options{Token: "x", Seal: seal}); err == nil || !strings.Contains(err.Error(), "Seal.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	url := serve(t, func(p *peer) {
		c := wire.Challenge{Nonce: "n"}
		p.send(string(c.Append(nil, "s")))
		p.drain()
	})
	if _, err := client.Dial(testkit.Soon(t), url, &client.Options{Token: "x", Seal: &client.Seal{Key: curveKey(t)}}); err == nil {
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
	if _, err := client.Dial(testkit.Soon(t), url, &client.Options{Credentials: credentials}); err == nil {
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
