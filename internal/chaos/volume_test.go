package chaos_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// volumeSize is that of a file system that is not full.
const volumeSize = 2 << 30

// newSingleOnVolume lays out a server whose disk can be filled, where `make
// chaos` runs as root; elsewhere it is [newSingle].
func newSingleOnVolume(t *testing.T) *single {
	t.Helper()
	dir := t.TempDir()
	volume := ""
	if long() {
		if err := mount(dir, 0, volumeSize); err == nil {
			volume = dir
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		} else {
			t.Logf("no disk is filled: a file system cannot be mounted: %v", err)
		}
	}
	s := newSingle(t, filepath.Join(dir, "data"))
	s.volume = volume
	return s
}

func mount(dir string, flags uintptr, size uint64) error {
	return syscall.Mount("rccs-chaos", dir, "tmpfs", flags, fmt.Sprint("size=", size))
}

// resize gives the volume another size.
func (s *single) resize(size uint64) {
	s.t.Helper()
	if err := mount(s.volume, syscall.MS_REMOUNT, size); err != nil {
		s.t.Fatal(err)
	}
}

// fill leaves no room on the disk. The server ends, waits for room when it is
// started again, and goes on by itself when there is some.
func (s *single) fill(rnd *rand.Rand) {
	s.t.Helper()
	var used syscall.Statfs_t
	if err := syscall.Statfs(s.volume, &used); err != nil {
		s.t.Fatal(err)
	}
	const left = 64 << 10
	s.resize((used.Blocks-used.Bfree)*uint64(used.Bsize) + left)
	s.endsBroken()
	s.start()
	s.saysFull()
	hold(s.t, rnd)
	s.resize(volumeSize)
	ready(s.t, []*proc{s.proc})
}

// saysFull waits until /readyz says that the disk is full. doctor then fails.
func (s *single) saysFull() {
	s.t.Helper()
	state := ""
	eventually(s.t, "the server says what it waits for", func() bool {
		status, body := s.get("/readyz")
		state = body
		return status == http.StatusServiceUnavailable && strings.Contains(body, "is full")
	}, &state)
	if status, out := s.command(s.data, "doctor"); status != 1 {
		s.t.Errorf("doctor: status %d\n%s", status, out)
	}
}

// agree fails unless /readyz, 'rccs doctor' and the log say the same: that the
// server can serve, or not. words are in the log's last line about it.
func (s *single) agree(serves bool, words string) {
	s.t.Helper()
	status, body := s.get("/readyz")
	code, out := s.command(s.data, "doctor")
	said := s.state(time.Now())
	if (status == http.StatusOK) != serves || (code == 0) != serves || !strings.Contains(said, words) {
		s.t.Errorf("serves: %t, /readyz: %d %s, doctor: status %d\n%s\nlog: %s", serves, status, body, code, out, said)
	}
}

// state returns the last line of the log, up to a time, about being ready or not.
func (s *single) state(by time.Time) string {
	s.t.Helper()
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		s.t.Error(err)
	}
	last := ""
	for line := range strings.Lines(string(log)) {
		for _, of := range []string{"ready again", "not ready", "waiting at the start", "waits no longer at the start", "stopping, to be started again"} {
			var at struct{ Time time.Time }
			if strings.Contains(line, `"msg":"`+of+`"`) && json.Unmarshal([]byte(line), &at) == nil && !at.Time.After(by) {
				last = line
			}
		}
	}
	return last
}

// askWhileItEnds asks /readyz until the server has ended. Whenever that says that
// it cannot serve, the log has said so before, by the times in it: the test reads
// it from a file, which the lines reach a moment later.
func (s *single) askWhileItEnds() (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !s.exited() {
			status, body := s.get("/readyz")
			if status != http.StatusServiceUnavailable {
				continue
			}
			answered, late := time.Now(), time.After(patience)
			for said := ""; !strings.Contains(said, "not ready") && !strings.Contains(said, "stopping"); said = s.state(answered) {
				select {
				case <-late:
					s.t.Errorf("/readyz says %s, and the log %s", body, said)
					return
				case <-tick.C:
				}
			}
		}
	}()
	return done
}

// restoreFrom makes the data directory anew from a backup.
func (s *single) restoreFrom(file string) {
	s.t.Helper()
	if err := os.RemoveAll(s.data); err != nil {
		s.t.Fatal(err)
	}
	if out, err := s.run("restore", file, "--data", s.data); err != nil {
		s.t.Fatalf("restore: %v\n%s", err, out)
	}
}
