package backbone_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestAStartSaysHowTheStoreWasLeft(t *testing.T) {
	t.Parallel()
	trust, dir := newTrust(t), private(t)
	begin := func(dir string) (s *backbone.Server, log *testkit.Log) {
		log = &testkit.Log{}
		opts := trust.options(dir)
		opts.Logger = slog.New(slog.NewTextHandler(log, nil))
		return start(t, opts), log
	}
	// killed returns what a kill leaves behind: what is there while the server runs.
	killed := func() string {
		s, _ := begin(dir)
		user, _ := trust.user(t)
		nc := dial(t, s, user)
		js := jetStream(t, nc)
		_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}})
		must(t, js, err)
		for range 10 {
			_, err := js.Publish(t.Context(), "kept", []byte("x"))
			must(t, js, err)
		}
		left := filepath.Join(t.TempDir(), "killed")
		must(t, js, os.CopyFS(left, os.DirFS(dir)))
		must(t, js, filepath.WalkDir(left, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chmod(path, 0o700)) // CopyFS adds rights for others
		}))
		nc.Close()
		stop(t, s)
		return left
	}
	first, later := killed(), killed() // the later one has an index, which is older than its messages
	for _, c := range []struct {
		left, dir string
		prepare   func() error
		want      string
	}{
		{"closed", dir, nil, ""},
		{"killed", first, nil, `level=INFO msg="recovered after an unclean stop, nothing accepted was lost"`},
		{"closed after that", first, nil, ""},
		{"killed later", later, nil, `level=INFO msg="recovered after an unclean stop, nothing accepted was lost"`},
		{"down with the machine", first, func() error {
			return os.WriteFile(filepath.Join(first, "nats.lock"), []byte("an earlier boot\n"), 0o600)
		}, `level=WARN msg="recovered after the machine went down`},
	} {
		if c.prepare != nil {
			must(t, c.left, c.prepare())
		}
		s, log := begin(c.dir)
		stop(t, s)
		text := log.String()
		if c.want == "" && strings.Contains(text, "recovered") || !strings.Contains(text, c.want) {
			t.Errorf("%s: want %q in %s", c.left, c.want, text)
		}
		if strings.Contains(text, "nats-server") {
			t.Errorf("%s: nats-server warns: %s", c.left, text)
		}
	}
}
