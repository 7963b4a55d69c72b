package backbone_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/backbone"
)

func TestADataDirectoryHasAFormat(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	file := filepath.Join(dir, "FORMAT")
	stop(t, start(t, tr.options(dir)))
	text, err := os.ReadFile(file)
	must(t, 0, err)
	if string(text) != "rccs-data/1\n" {
		t.Errorf("it says %q", text)
	}
	// One from the time before there was a number.
	must(t, 0, os.Remove(file))
	stop(t, start(t, tr.options(dir)))
	if _, err := os.Stat(file); err != nil {
		t.Errorf("an older directory got no number: %v", err)
	}
}

func TestADataDirectoryOfALaterVersionIsRefused(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	stop(t, start(t, tr.options(dir)))
	file := filepath.Join(dir, "FORMAT")
	for text, says := range map[string]string{
		"rccs-data/2\n": "has format 2, and this program knows formats up to 1", "rccs-data/\n": "holds", "else": "holds", "rccs-data/0": "holds",
	} {
		must(t, 0, os.WriteFile(file, []byte(text), 0o600))
		s, err := backbone.New(tr.options(dir))
		must(t, s, err)
		err = s.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
		if errors.Is(err, backbone.ErrNewerFormat) != (text == "rccs-data/2\n") {
			t.Errorf("%q: the error is %v", text, err)
		}
		stop(t, s)
		if left, err := os.ReadFile(file); err != nil || string(left) != text {
			t.Errorf("%q became %q, %v", text, left, err)
		}
	}
}
