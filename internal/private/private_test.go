package private_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/private"
)

func write(t *testing.T, path string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAccessOfTheGroupIsAcceptedAndThatOfOthersRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for mode, fine := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o440: true, 0o640: true, 0o660: true, 0o770: true, 0o700: true,
		0o604: false, 0o602: false, 0o601: false, 0o644: false, 0o755: false, 0o777: false,
	} {
		path := write(t, filepath.Join(dir, mode.String()), mode)
		err := private.Check(path)
		if (err == nil) != fine {
			t.Errorf("mode %s: %v", mode, err)
		}
		if err != nil && !strings.HasSuffix(err.Error(), "chmod o-rwx "+path) {
			t.Errorf("mode %s: the error does not say what mends it: %v", mode, err)
		}
	}
	if err := private.Check(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that does not exist: %v", err)
	}
}

func TestEveryMistakeInATreeIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, sub := range []string{"keys", private.LostAndFound} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	fine := write(t, filepath.Join(dir, "keys", "fine"), 0o440)
	bad := []string{write(t, filepath.Join(dir, "first"), 0o644), write(t, filepath.Join(dir, "keys", "second"), 0o604)}
	write(t, filepath.Join(dir, private.LostAndFound, "not ours"), 0o644)
	err := private.CheckTree(dir)
	if err == nil || strings.Contains(err.Error(), fine) || strings.Contains(err.Error(), "not ours") {
		t.Fatalf("%v", err)
	}
	for _, path := range bad {
		if !strings.Contains(err.Error(), "chmod o-rwx "+path) {
			t.Errorf("%s is not named: %v", path, err)
		}
	}
	for _, path := range bad {
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := private.CheckTree(dir); err != nil {
		t.Errorf("mended: %v", err)
	}
}
