package backbone_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/backbone"
)

func TestDirectoryOpenToOthersIsRefused(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
	must(t, 0, os.Mkdir(dir, 0o755))
	stop(t, start(t, tr.options(dir)))
	info, err := os.Stat(dir)
	must(t, info, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %s", info.Mode())
	}
	for _, mode := range []os.FileMode{0o755, 0o701, 0o702, 0o777} {
		must(t, 0, os.Chmod(dir, mode))
		s, err := backbone.New(tr.options(dir))
		must(t, s, err)
		err = s.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "chmod o-rwx "+dir) {
			t.Errorf("mode %s: %v", mode, err)
		}
		stop(t, s)
	}
	for _, mode := range []os.FileMode{0o700, 0o750, os.ModeSetgid | 0o770} { // the last is a volume's with an fsGroup
		must(t, 0, os.Chmod(dir, mode))
		stop(t, start(t, tr.options(dir)))
	}
}

func TestFreshVolumeIsClosedToOthers(t *testing.T) {
	t.Parallel()
	for given, want := range map[os.FileMode]os.FileMode{
		0o755:                 0o700,
		os.ModeSetgid | 0o775: os.ModeSetgid | 0o770, // an fsGroup's
	} {
		tr, dir := newTrust(t), filepath.Join(t.TempDir(), "data")
		must(t, 0, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
		must(t, 0, os.Chmod(dir, given))
		stop(t, start(t, tr.options(dir)))
		info, err := os.Stat(dir)
		must(t, info, err)
		if got := info.Mode() &^ os.ModeDir; got != want {
			t.Errorf("mode %s became %s, want %s", given, got, want)
		}
		stop(t, start(t, tr.options(dir)))
	}
}

func TestEveryOpenEntryOfADirectoryIsNamed(t *testing.T) {
	t.Parallel()
	dir := private(t)
	must(t, 0, os.MkdirAll(filepath.Join(dir, "keys"), 0o700))
	var paths []string
	for _, name := range []string{"nats.conf", "keys/default.nk", "keys/operator.nk"} {
		path := filepath.Join(dir, name)
		must(t, 0, os.WriteFile(path, nil, 0o644))
		must(t, 0, os.Chmod(path, 0o644))
		paths = append(paths, path)
	}
	// Nobody else gets to a file of a directory that is closed to others, but keys
	// are copied with their modes.
	err := backbone.CheckDir(dir)
	for n, path := range paths {
		if named := err != nil && strings.Contains(err.Error(), "chmod o-rwx "+path); named != (n > 0) {
			t.Errorf("%s: named is %t: %v", path, named, err)
		}
	}
	must(t, 0, os.Chmod(dir, 0o755))
	err = backbone.CheckDir(dir)
	for _, path := range append(paths, dir) {
		if err == nil || !strings.Contains(err.Error(), "chmod o-rwx "+path) {
			t.Errorf("%s is not named: %v", path, err)
		}
	}
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

// nats-server removes, without a word, the streams of a server that ran alone when
// it is started as one of a cluster.
func TestAServerOfAClusterDoesNotTakeTheStreamsOfOneThatRanAlone(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), private(t)
	alone := start(t, tr.options(dir))
	auth, _ := tr.user(t)
	js := jetStream(t, dial(t, alone, auth))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, 0, err)
	_, err = js.Publish(t.Context(), "s", nil)
	must(t, 0, err)
	stop(t, alone)

	opts := tr.options(dir)
	opts.Listen = "127.0.0.1:0"
	opts.Config = append(slices.Clone(opts.Config), "\nserver_name: a\ncluster { name: c, listen: \"127.0.0.1:-1\", authorization { user: a, password: b } }\n"...)
	s, err := backbone.New(opts)
	must(t, s, err)
	if err := s.Start(t.Context()); !errors.Is(err, backbone.ErrAlone) {
		t.Errorf("started in a cluster: %v", err)
	}
	stop(t, s)

	again := start(t, tr.options(dir))
	stream, err := jetStream(t, dial(t, again, auth)).Stream(t.Context(), "S")
	must(t, stream, err)
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages are left, want 1", n)
	}
}

// A server alone has one of several copies, which may lack what was accepted, and
// what it stores is lost in the cluster.
func TestAServerAloneDoesNotTakeTheStreamsOfACluster(t *testing.T) {
	t.Parallel()
	tr, dir := newTrust(t), private(t)
	alone := start(t, tr.options(dir))
	auth, _ := tr.user(t)
	_, err := jetStream(t, dial(t, alone, auth)).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, 0, err)
	stop(t, alone)
	// A server of a cluster keeps what its servers agree on beside the streams.
	agreed := filepath.Join(dir, "jetstream", "SYS", "_js_", "_meta_")
	must(t, 0, os.MkdirAll(agreed, 0o700))

	s, err := backbone.New(tr.options(dir))
	must(t, s, err)
	err = s.Start(t.Context())
	stop(t, s)
	if !errors.Is(err, backbone.ErrCluster) {
		t.Fatalf("started alone: %v", err)
	}
	// As docs/cluster.md has it for when the other servers are gone for good.
	must(t, 0, os.RemoveAll(filepath.Dir(agreed)))
	again := start(t, tr.options(dir))
	stream, err := jetStream(t, dial(t, again, auth)).Stream(t.Context(), "S")
	must(t, stream, err)
}
