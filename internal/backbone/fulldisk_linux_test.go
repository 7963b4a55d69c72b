package backbone_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/inbox"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/subjects"
)

// A full disk takes no cursor that the store has confirmed: what cannot be written takes
// the place of nothing. Otherwise a device got its whole inbox again.
func TestAFullDiskTakesNoCursorThatWasConfirmed(t *testing.T) {
	t.Parallel()
	const room = 4 << 20
	dir := t.TempDir()
	mount := func(flags uintptr, size int) error {
		return syscall.Mount("rccs-backbone", dir, "tmpfs", flags, fmt.Sprint("size=", size))
	}
	if err := mount(0, room); err != nil {
		need.Skip(t, fmt.Sprintf("a small file system cannot be mounted: %v", err))
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	env := natstest.Server(t, natstest.Configure(func(o *server.Options) { o.StoreDir = filepath.Join(dir, "store") }))
	js := jetStream(t, env.Conn(t))
	ensure(t, js, backbone.Plan{})
	subject := func(n int) string {
		return layout.Cursor(subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprint("d", n))}.Key())
	}
	const devices = 20
	confirmed := make([]uint64, devices)
	store := func(round uint64) (failed bool) {
		for n := range devices {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // a full one does not answer
			_, err := js.Publish(ctx, subject(n), fmt.Appendf(nil, `{"upTo":%d}`, round))
			cancel()
			if err != nil {
				return true
			}
			confirmed[n] = round
		}
		return false
	}
	var used syscall.Statfs_t
	must(t, 0, syscall.Statfs(dir, &used))
	must(t, 0, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, int(used.Bfree)*int(used.Bsize)-16<<10), 0o600))
	for round := uint64(1); !store(round) || used.Bfree > 0; round++ { // on a slow machine, one may fail before
		must(t, 0, syscall.Statfs(dir, &used))
	}
	must(t, 0, mount(syscall.MS_REMOUNT, 8*room))
	env.Restart()
	js = jetStream(t, env.Conn(t))
	stream, err := js.Stream(t.Context(), layout.StreamCursor)
	must(t, stream, err)
	for n := range devices {
		m, err := stream.GetLastMsgForSubject(t.Context(), subject(n))
		if err != nil {
			t.Errorf("%s: %v", subject(n), err)
		} else if c, err := inbox.ParseCursor(m.Data); err != nil || c.UpTo < confirmed[n] {
			t.Errorf("%s is %s, %v, and %d was confirmed", subject(n), m.Data, err, confirmed[n])
		}
	}
}
