//go:build linux

package backup_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/backup"
	"github.com/rccs-io/rccs/internal/need"
)

// Compressed messages may need far more bytes on the disk than the backup has.
func TestABackupThatTheDiskHasNoRoomForIsRefusedBeforeItFillsTheDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	// All of it is one piece of a restore, for which nats-server waits five seconds.
	const size = 8 << 20
	if err := syscall.Mount("rccs-restore", disk, "tmpfs", 0, "size=8m"); err != nil {
		need.Skip(t, "a small file system cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() { check(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	h := serve(t, t.TempDir())
	zeros := strings.Repeat("0", 1<<19)
	for range size/len(zeros) + 1 {
		h.send("alice/phone", zeros)
	}
	path, m := h.save(backup.SaveOptions{})
	if m.Bytes() > size/4 {
		t.Fatalf("the file has %d bytes of messages", m.Bytes())
	}
	most := uint64(0)
	used := func() {
		var s syscall.Statfs_t
		check(t, syscall.Statfs(disk, &s))
		most = max(most, (s.Blocks-s.Bfree)*uint64(s.Bsize))
	}
	err := restore(t, path, filepath.Join(disk, "new"), backup.RestoreOptions{Progress: func(int64, int64) { used() }})
	if err == nil || !strings.Contains(err.Error(), "is too small: 8 MiB of 8 MiB are free") || !strings.Contains(err.Error(), "MiB are needed") {
		t.Errorf("restored: %v", err)
	}
	if most > size/2 {
		t.Errorf("%d bytes of the disk were used", most)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("there are %v, %v", left, err)
	}
	check(t, restore(t, path, filepath.Join(t.TempDir(), "new"), backup.RestoreOptions{}))
}
