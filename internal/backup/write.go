package backup

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/private"
)

// writer makes a backup file under a temporary name.
type writer struct {
	path string
	file *os.File
	sum  hash.Hash // of all that was written through tar
	tar  *tar.Writer
	m    Manifest
}

func create(path string) (*writer, error) {
	if err := vacant(path); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".rccs-backup-*") // mode 0600
	var named *fs.PathError
	switch {
	case errors.As(err, &named): // it names a file that nobody asked for
		return nil, fmt.Errorf("backup: make %s: %w", path, named.Err)
	case err != nil:
		return nil, err
	}
	w := &writer{path: path, file: file, sum: sha256.New()}
	w.tar = tar.NewWriter(io.MultiWriter(file, w.sum))
	w.m.Format, w.m.Begun = format, time.Now().UTC()
	return w, nil
}

func vacant(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s exists: name another file, or remove it", path)
	case errors.Is(err, os.ErrNotExist):
		return nil
	}
	return err
}

// add writes a part.
func (w *writer) add(name string, size int64, content io.Reader) error {
	sum := sha256.New()
	if err := w.entry(name, size, io.TeeReader(content, sum)); err != nil {
		return err
	}
	w.m.Parts = append(w.m.Parts, Part{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func (w *writer) entry(name string, size int64, content io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: time.Now().Truncate(time.Second)}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s changed while it was read", name)
	}
	return err
}

// seal writes manifest and checksum, and gives the file its name.
func (w *writer) seal() (*Manifest, error) {
	w.m.Ended = time.Now().UTC()
	body, err := json.MarshalIndent(&w.m, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(body) > maxManifest || len(w.m.Parts) > maxEntries-2 {
		return nil, w.tooMuch()
	}
	if err := w.text(manifestName, body); err != nil {
		return nil, err
	}
	if err := w.tar.Flush(); err != nil { // pads the manifest, so that the sum is of whole blocks
		return nil, err
	}
	end, err := seal(w.sum)
	if err != nil {
		return nil, err
	}
	if _, err := w.file.Write(end); err != nil {
		return nil, err
	}
	if err := w.file.Sync(); err != nil {
		return nil, err
	}
	if err := vacant(w.path); err != nil { // another backup may have been faster
		return nil, err
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return nil, err
	}
	return &w.m, errors.Join(w.file.Close(), private.Sync(filepath.Dir(w.path)))
}

// tooMuch says whose streams have so much beside their messages that nothing would
// restore the backup.
func (w *writer) tooMuch() error {
	sizes := map[string]int{}
	most := ""
	for i := range w.m.Streams {
		s := &w.m.Streams[i]
		if sizes[s.Tenant] += 1 + len(s.Config); sizes[s.Tenant] > sizes[most] {
			most = s.Tenant
		}
	}
	err := fmt.Errorf("the streams of tenant %s are too many, or their configurations too large (%d bytes): remove those that RCCS does not need ('nats stream ls')",
		cmp.Or(most, auth.DefaultTenant), sizes[most])
	if most != "" {
		return fmt.Errorf("%w; %s", err, allOthers(most))
	}
	return err
}

func (w *writer) text(name string, body []byte) error {
	return w.entry(name, int64(len(body)), bytes.NewReader(body))
}

// seal is what a file ends with: an entry with the checksum of all before it,
// and the end of the tar archive. It depends on nothing else, so that what was
// read can be compared with it.
func seal(sum hash.Hash) ([]byte, error) {
	body := hex.EncodeToString(sum.Sum(nil)) + "\n"
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: sumName, Size: int64(len(body)), Mode: 0o600, Format: tar.FormatUSTAR})
	if err == nil {
		_, err = io.WriteString(w, body)
	}
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

// abandon removes what was written, unless it was sealed.
func (w *writer) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name()) // it is not there when it was sealed
}
