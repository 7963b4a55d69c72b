package private

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace gives a file another content, so that after a crash it has the old one
// or the new. Its mode is 0600.
func Replace(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return About(path, err)
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return About(path, errors.Join(err, os.Remove(temp.Name())))
	}
	return Sync(filepath.Dir(path))
}

// About has an error name the file that was asked for, rather than the temporary
// one beside it.
func About(path string, err error) error {
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "write", Path: path, Err: cause.Err}
	}
	return err
}

// Sync forces a file, or the entries of a directory, to the disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
