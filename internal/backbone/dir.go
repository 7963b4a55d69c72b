package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// unfinished begins the name of a directory in which a restore makes a data
// directory; it is there when that was killed.
const unfinished = ".restore-"

// CheckDir refuses a data directory that is open to other users, or that a
// restore has left unfinished. One that is empty or not there is fine: it is
// closed to others when it is used. What nats-server makes below is open to the
// group, so this directory is what keeps others out.
func CheckDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			return fmt.Errorf("backbone: data directory %s holds an unfinished restore, %s: remove what is in the directory, and restore again",
				dir, filepath.Join(dir, e.Name()))
		}
	}
	if len(entries) == 0 || runtime.GOOS == "windows" { // where modes say nothing
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("backbone: data directory %s holds keys and messages, and is open to other users (mode %04o): run chmod 700 %s",
			dir, mode, dir)
	}
	return nil
}

// openDir makes the data directory, or takes one that is fit.
func openDir(dir string) error {
	if err := CheckDir(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) == 0 {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	return nil
}
