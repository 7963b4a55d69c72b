// Package private says which modes the files and directories of an installation
// may have. They hold keys and messages.
//
// One rule holds for all of them: whoever is neither the owner nor in the group
// must have no access. Access of the group is accepted, because platforms give
// it: Kubernetes mounts secrets with mode 0440, and gives volumes with an
// fsGroup mode 0770 each time.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// LostAndFound is what a file system puts into its root. Nothing of ours lies
// there.
const LostAndFound = "lost+found"

const others = 0o007

// Check refuses a file or a directory that other users can read, write or
// enter. The error names it, and the chmod that mends it. A directory that
// belongs to somebody else, as the root of a volume does, only may not be
// writable by others: check what lies in it, too. A path that does not exist is
// an error that wraps [fs.ErrNotExist].
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return check(path, info)
}

func check(path string, info fs.FileInfo) error {
	mode := info.Mode()
	forbidden := fs.FileMode(others)
	if info.IsDir() && (ownedBySomeoneElse(info) || mode&fs.ModeSticky != 0) {
		// The root of a volume, which we cannot close. What lies in it is checked;
		// nobody else may put something there instead.
		forbidden = 0o002
		if mode&fs.ModeSticky != 0 {
			forbidden = 0
		}
	}
	if runtime.GOOS == "windows" || mode&forbidden == 0 { // where modes say nothing
		return nil
	}
	return fmt.Errorf("%s is open to other users (mode %04o): run chmod o-rwx %s", path, mode.Perm(), path)
}

// CheckTree checks a directory and the files below it. Directories below it may
// be entered by others, who do not get that far. The error names every mistake.
func CheckTree(dir string) error {
	var mistakes []error
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == LostAndFound {
			return filepath.SkipDir
		}
		info, err := os.Stat(path) // of a link what it leads to: Kubernetes mounts secrets as links
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() && path != dir {
			return nil
		}
		if err == nil {
			err = check(path, info)
		}
		if err != nil {
			mistakes = append(mistakes, err)
		}
		return nil
	})
	return errors.Join(append(mistakes, err)...)
}

// Entries lists what lies in a directory, without what its file system put
// there.
func Entries(dir string) ([]fs.DirEntry, error) {
	all, err := os.ReadDir(dir)
	entries := all[:0]
	for _, e := range all {
		if e.Name() != LostAndFound {
			entries = append(entries, e)
		}
	}
	return entries, err
}

// Close takes access to an empty directory away from others, and from the group
// unless a platform gave it, which sets the setgid bit with it. A directory that
// belongs to another user is left as it is.
func Close(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	mode := info.Mode() &^ others
	if mode&fs.ModeSetgid == 0 {
		mode &^= 0o070
	}
	if mode == info.Mode() {
		return nil
	}
	if err := os.Chmod(dir, mode); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// CloseFile takes access to a file away from all but its owner, if others have
// any. What is no file, such as a pipe or a terminal, and what belongs to another
// user is left as it is.
func CloseFile(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&others == 0 {
		return nil
	}
	if err := file.Chmod(0o600); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
