package backbone_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/backbone"
)

func TestDirectoryOpenToOthersIsRefused(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	must(t, 0, os.Mkdir(dir, 0o755)) //nolint:gosec // empty: it is closed when it is used
	stop(t, start(t, tr.options(dir)))
	info, err := os.Stat(dir)
	must(t, info, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %s", info.Mode())
	}
	for _, mode := range []os.FileMode{0o755, 0o750, 0o701, 0o720} {
		must(t, 0, os.Chmod(dir, mode))
		s, err := backbone.New(tr.options(dir))
		must(t, s, err)
		err = s.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "chmod 700 "+dir) {
			t.Errorf("mode %s: %v", mode, err)
		}
		stop(t, s)
	}
	must(t, 0, os.Chmod(dir, 0o700))
	stop(t, start(t, tr.options(dir)))
}

func TestUnfinishedRestoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	must(t, 0, os.MkdirAll(filepath.Join(dir, ".restore-1"), 0o700))
	if err := backbone.CheckDir(dir); err == nil || !strings.Contains(err.Error(), "restore again") {
		t.Errorf("%v", err)
	}
	if err := backbone.CheckDir(filepath.Join(dir, "none")); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
}
