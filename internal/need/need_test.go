package need_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// CI cannot mend it: it is written down and no failure.
func TestASkippedTestIsWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(need.EnvSkipped, file)
	t.Setenv(need.EnvRequireAll, "1")
	t.Run("inner", func(t *testing.T) {
		need.Skip(t, "only root may do it")
		t.Error("the test went on")
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "TestASkippedTestIsWrittenDown/inner: only root may do it\n"; string(text) != want {
		t.Errorf("written down: %q, want %q", text, want)
	}
}

func TestAMissingProgramIsSkippedByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(need.EnvSkipped, file)
	t.Setenv(need.EnvRequireAll, "")
	var skipped bool
	t.Run("inner", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		need.Program(t, "rccs-no-such-program", "rccs-nor-this")
		t.Error("the test went on")
	})
	if !skipped {
		t.Error("the test was not skipped")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "TestAMissingProgramIsSkippedByName/inner: rccs-no-such-program is not installed\n"; string(text) != want {
		t.Errorf("written down: %q, want %q", text, want)
	}
}

func TestAProgramIsFoundUnderAnyOfItsNames(t *testing.T) {
	t.Parallel()
	if path := need.Program(t, "rccs-no-such-program", "go"); !strings.HasSuffix(path, "go") {
		t.Errorf("found %q", path)
	}
}
