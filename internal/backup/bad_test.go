package backup_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/backup"
)

func refused(tb testing.TB, err error, want ...string) {
	tb.Helper()
	if err == nil {
		tb.Error("not refused")
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("%q is not told: %v", text, err)
		}
	}
}

func cut(path string) (first, rest string, found bool) {
	return strings.Cut(path, string(filepath.Separator))
}

func differences(tb testing.TB, h *home) ([]backbone.Difference, error) {
	tb.Helper()
	js, err := jetstream.New(h.nc)
	check(tb, err)
	return backbone.Compare(soon(tb), js, backbone.Plan{Shards: h.Keys().Shards()})
}

// Whatever is done to a backup, it is refused before anything is written.
func TestBadFilesAreRefused(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	for range 10 {
		a.send("alice/phone", strings.Repeat("x", 500))
	}
	path, _ := a.save(backup.SaveOptions{})
	good, err := os.ReadFile(path)
	check(t, err)
	dir := t.TempDir()
	bad := func(name string, content []byte) {
		t.Helper()
		file := filepath.Join(dir, "bad.tar")
		check(t, os.WriteFile(file, content, 0o600))
		data := filepath.Join(dir, "new")
		err := restore(t, file, data, backup.RestoreOptions{})
		if err == nil {
			t.Errorf("%s: restored", name)
		} else if !strings.Contains(err.Error(), file) {
			t.Errorf("%s: the file is not named: %v", name, err)
		}
		if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s was made: %v", name, data, err)
			check(t, os.RemoveAll(data))
		}
	}
	bad("empty", nil)
	bad("text", []byte("a letter to a friend\n"))
	bad("zeros", make([]byte, 10_240))
	bad("twice", append(append([]byte{}, good...), good...))
	for n := 1; n < len(good); n += 1 + len(good)/200 {
		bad("cut off", good[:n])
		altered := append([]byte{}, good...)
		altered[n] ^= 0x20
		bad("altered", altered)
	}
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	t.Parallel()
	a := serve(t, filepath.Join(t.TempDir(), "data"))
	path, _ := a.save(backup.SaveOptions{})
	refused(t, restore(t, path, a.data, backup.RestoreOptions{}), a.data, "not empty")
	other := t.TempDir()
	check(t, os.WriteFile(filepath.Join(other, "letter"), nil, 0o600))
	refused(t, restore(t, path, other, backup.RestoreOptions{}), other, "letter")
	entries, err := os.ReadDir(other)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	_, _, err = backup.Save(soon(t), backup.SaveOptions{Out: path, Dial: a.dial, Data: a.data})
	refused(t, err, path, "exists")
}
