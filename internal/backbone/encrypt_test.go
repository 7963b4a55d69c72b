package backbone_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
)

const (
	secret  = "a body that must not be found in any file"
	keyA    = "0123456789abcdef0123456789abcdef"
	keyB    = "another key another key another key another key"
	written = 50
)

// store writes to a stream of a server with the options, and stops it.
func store(t *testing.T, tr *trust, opts backbone.Options) {
	t.Helper()
	s := start(t, opts)
	user, _ := tr.user(t)
	js := jetStream(t, dial(t, s, user))
	_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	must(t, 0, err)
	for i := range written {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "s." + strconv.Itoa(i), Data: []byte(secret)})
		must(t, 0, err)
	}
	stop(t, s)
}

// stored counts what a server with the options has.
func stored(t *testing.T, tr *trust, opts backbone.Options) uint64 {
	t.Helper()
	s := start(t, opts)
	user, _ := tr.user(t)
	stream, err := jetStream(t, dial(t, s, user)).Stream(t.Context(), "S")
	must(t, stream, err)
	for i := range written {
		m, err := stream.GetMsg(t.Context(), uint64(i+1))
		must(t, m, err)
		if string(m.Data) != secret {
			t.Errorf("message %d is %q", i+1, m.Data)
		}
	}
	stop(t, s)
	return stream.CachedInfo().State.Msgs
}

// found says in which file of a directory the body is.
func found(t *testing.T, dir string) (path string) {
	t.Helper()
	must(t, 0, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(p)
		if bytes.Contains(content, []byte(secret)) {
			path = p
		}
		return err
	}))
	return path
}

func TestWhatIsStoredIsEncrypted(t *testing.T) {
	t.Parallel()
	for _, cipher := range []string{"chacha", "aes"} {
		t.Run(cipher, func(t *testing.T) {
			t.Parallel()
			tr, dir := newTrust(t), filepath.Join(t.TempDir(), `d[at]a*\?`)
			opts := tr.options(dir)
			opts.Config = []byte("jetstream { cipher: " + cipher + " }")
			opts.StoreKey = keyA
			store(t, tr, opts)
			if path := found(t, dir); path != "" {
				t.Errorf("in %s stands what was stored", path)
			}
			if n := stored(t, tr, opts); n != written {
				t.Errorf("%d messages", n)
			}
			for name, c := range map[string]struct {
				key  string
				want error
			}{"none": {"", backbone.ErrKeyMissing}, "another": {keyB, backbone.ErrKeyWrong}} {
				wrong := opts
				wrong.StoreKey = c.key
				s, err := backbone.New(wrong)
				must(t, s, err)
				if err := s.Start(t.Context()); !errors.Is(err, c.want) || !strings.Contains(err.Error(), dir) {
					t.Errorf("key %s: %v", name, err)
				}
				stop(t, s)
			}
			if n := stored(t, tr, opts); n != written {
				t.Errorf("%d messages after the wrong keys", n)
			}
		})
	}
}

func TestWhatIsNotEncryptedYetIsWhenThereIsAKey(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	opts := tr.options(dir)
	store(t, tr, opts)
	if found(t, dir) == "" {
		t.Fatal("not found without encryption: the test does not see what it looks for")
	}
	opts.StoreKey = keyA
	if n := stored(t, tr, opts); n != written {
		t.Errorf("%d messages", n)
	}
	if path := found(t, dir); path != "" {
		t.Errorf("in %s stands what was stored", path)
	}
	opts.StoreKey = ""
	s, err := backbone.New(opts)
	must(t, s, err)
	if err := s.Start(t.Context()); !errors.Is(err, backbone.ErrKeyMissing) {
		t.Errorf("the key is left out again: %v", err)
	}
	stop(t, s)
}

func TestTheKeyChanges(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	opts := tr.options(dir)
	opts.StoreKey = keyA
	store(t, tr, opts)
	opts.StoreKey, opts.OldStoreKey = keyB, keyA
	if n := stored(t, tr, opts); n != written {
		t.Errorf("%d messages", n)
	}
	opts.OldStoreKey = ""
	if n := stored(t, tr, opts); n != written {
		t.Errorf("%d messages with the new key alone", n)
	}
	opts.StoreKey = keyA
	s, err := backbone.New(opts)
	must(t, s, err)
	if err := s.Start(t.Context()); !errors.Is(err, backbone.ErrKeyWrong) {
		t.Errorf("the old key: %v", err)
	}
	stop(t, s)
}

func TestKeysInTheConfiguration(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	opts := tr.options(dir)
	opts.Config = []byte(`jetstream { key: "` + keyA + `" }`)
	store(t, tr, opts)
	if path := found(t, dir); path != "" {
		t.Errorf("in %s stands what was stored", path)
	}
	opts.Config = nil
	opts.StoreKey = keyA
	if n := stored(t, tr, opts); n != written {
		t.Errorf("%d messages", n)
	}
}

func TestTheConfigurationIsReadAgainWithAKey(t *testing.T) {
	t.Parallel()
	opts := newTrust(t).options(filepath.Join(t.TempDir(), "data"))
	opts.StoreKey = keyA
	if err := start(t, opts).Reload(); err != nil {
		t.Error(err)
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	opts := newTrust(t).options(t.TempDir())
	opts.StoreKey = "short"
	if _, err := backbone.New(opts); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("a short key: %v", err)
	}
	opts.StoreKey, opts.OldStoreKey = "", keyA
	if _, err := backbone.New(opts); err == nil {
		t.Error("an old key alone was taken")
	}
}
