package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// A pod that runs as a user of its own, with a volume whose root belongs to
// root: Kubernetes gives the volume's group access to it at each mount, and
// mounts secrets with mode 0440.
func TestServeRunsOnVolumesOfKubernetes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		need.Skip(t, "only root can give a directory to another user, as Kubernetes does")
	}
	const user, group = 65532, 23456
	root, err := os.MkdirTemp("/tmp", "rccs-volume-") //nolint:usetesting // every user can enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	binary := filepath.Join(root, "rccs")
	if err := os.Link(program, binary); err != nil { // the tests' own directory is closed to others
		t.Fatal(err)
	}
	volume, key := filepath.Join(root, "volume"), filepath.Join(root, "store.key")
	for _, err := range []error{
		os.Chmod(root, 0o755),
		os.MkdirAll(filepath.Join(volume, "lost+found"), 0o700),
		os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600),
		os.Chown(key, 0, group), os.Chmod(key, 0o440),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for mount, mode := range []os.FileMode{os.ModeSetgid | 0o775, os.ModeSetgid | 0o770} {
		if err := os.Chown(volume, 0, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(volume, mode); err != nil {
			t.Fatal(err)
		}
		// Kubernetes gives the group what the owner may do, each time.
		if err := filepath.Walk(volume, func(path string, info os.FileInfo, err error) error {
			if err != nil || path == volume || filepath.Base(path) == "lost+found" {
				return err
			}
			owner := info.Mode().Perm() & 0o700
			return os.Chmod(path, info.Mode()|owner>>3)
		}); err != nil {
			t.Fatal(err)
		}
		cmd := command(t.Context(), "serve", "--data", volume, "--encryption-key-file", key,
			"--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
		cmd.Path = binary
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{group}}}
		p, err := startCommand(cmd)
		if err != nil {
			t.Fatalf("mount %d: %v", mount+1, err)
		}
		if status, err := p.terminate(); err != nil || status != 0 {
			t.Fatalf("mount %d: status %d, %v", mount+1, status, err)
		}
	}
}
