package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rccs-io/rccs/internal/snapshot"
)

const (
	// block is what tar counts in.
	block = 512
	// maxManifest bounds what is read into memory before it was checked.
	maxManifest = 64 << 20
	// maxEntries is far above what an installation has of streams and keys.
	maxEntries = 100_000
)

// File is a backup whose checksums were found right.
type File struct {
	// Manifest says what is in it. Do not change it.
	Manifest *Manifest

	path  string
	file  *os.File
	parts map[string]*io.SectionReader

	largest int // bytes of the largest message; known after Check
}

// Open opens a backup and reads all of it once, to check it. Progress is called
// with how many bytes were read, of how many.
func Open(path string, progress func(done, all int64)) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	f := &File{path: path, file: file}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not a file")
	default:
		f.Manifest, f.parts, err = read(file, info.Size(), progress)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("backup: %s: %w", path, err)
	}
	return f, nil
}

// Close ends the use of the file.
func (f *File) Close() error { return f.file.Close() }

// part is the content of a part from its beginning.
func (f *File) part(name string) *io.SectionReader {
	p := f.parts[name]
	return io.NewSectionReader(p, 0, p.Size())
}

// Check reads every stream's archive and compares it with the manifest.
// Progress is called as in [Open].
func (f *File) Check(progress func(done, all int64)) error {
	var done int64
	for i := range f.Manifest.Streams {
		s := &f.Manifest.Streams[i]
		part := f.part(s.Part)
		have, err := snapshot.Inspect(part, s.Bytes)
		if err != nil {
			return s.failed(fmt.Errorf("backup: %s: stream %s: %w", f.path, s.Name, err))
		}
		if have.First != s.First || have.Last != s.Last || have.Messages != s.Messages || have.Bytes != s.Bytes {
			return fmt.Errorf("backup: %s: stream %s has %d messages up to sequence %d, and its manifest says %d up to %d",
				f.path, s.Name, have.Messages, have.Last, s.Messages, s.Last)
		}
		f.largest = max(f.largest, have.Largest)
		done += part.Size()
		progress(done, f.Manifest.Bytes())
	}
	return nil
}

// entry is where a tar entry's content is.
type entry struct {
	name         string
	offset, size int64
}

// read checks a backup: that it is one, that it is whole, and that nothing in
// it was altered.
func read(r io.ReaderAt, size int64, progress func(done, all int64)) (*Manifest, map[string]*io.SectionReader, error) {
	entries, err := scan(r, size)
	if err != nil {
		return nil, nil, err
	}
	n := len(entries)
	if n < 2 || entries[n-2].name != manifestName || entries[n-1].name != sumName || entries[n-2].size > maxManifest {
		return nil, nil, errNoBackup
	}
	manifest := entries[n-2]
	end := padded(manifest.offset + manifest.size)
	want, parts, err := sums(r, entries[:n-2], end, progress)
	if err != nil {
		return nil, nil, err
	}
	have, err := io.ReadAll(io.NewSectionReader(r, end, int64(len(want))+1)) // and nothing may follow
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(have, want) || end+int64(len(want)) != size {
		return nil, nil, errors.New("it was altered or damaged: its checksum is another")
	}
	body, err := io.ReadAll(io.NewSectionReader(r, manifest.offset, manifest.size))
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(body)
	if err != nil {
		return nil, nil, err
	}
	if err := same(m.Parts, parts); err != nil {
		return nil, nil, err
	}
	sections := make(map[string]*io.SectionReader, len(parts))
	for _, e := range entries[:n-2] {
		sections[e.name] = io.NewSectionReader(r, e.offset, e.size)
	}
	return m, sections, nil
}

// padded is the end of the block that a position is in.
func padded(n int64) int64 { return (n + block - 1) / block * block }

// scan lists the entries, in order.
func scan(r io.ReaderAt, size int64) ([]entry, error) {
	in := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(in)
	var all []entry
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil || h.Typeflag != tar.TypeReg || len(all) == maxEntries {
			return nil, errNoBackup
		}
		// The tar reader reads no further than the header.
		at, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Size > size-at {
			return nil, errNoBackup
		}
		all = append(all, entry{name: h.Name, offset: at, size: h.Size})
	}
}

// sums reads all up to end, and returns what must follow there, and the
// checksums of the parts.
func sums(r io.ReaderAt, entries []entry, end int64, progress func(done, all int64)) ([]byte, []Part, error) {
	in := io.NewSectionReader(r, 0, end)
	whole := sha256.New()
	parts := make([]Part, 0, len(entries))
	var at int64
	for _, e := range entries {
		if _, err := io.CopyN(whole, in, e.offset-at); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errNoBackup, err)
		}
		sum := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(whole, sum), in, e.size); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errNoBackup, err)
		}
		at = e.offset + e.size
		parts = append(parts, Part{Name: e.name, Size: e.size, SHA256: hex.EncodeToString(sum.Sum(nil))})
		progress(at, end)
	}
	if _, err := io.CopyN(whole, in, end-at); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errNoBackup, err)
	}
	want, err := seal(whole)
	return want, parts, err
}

// same compares what the manifest says with what there is, in order.
func same(want, have []Part) error {
	if len(want) != len(have) {
		return fmt.Errorf("it has %d parts, and its manifest names %d", len(have), len(want))
	}
	for i := range want {
		if want[i].Name != have[i].Name || want[i].Size != have[i].Size || !strings.EqualFold(want[i].SHA256, have[i].SHA256) {
			return fmt.Errorf("its part %q is not what the manifest says", have[i].Name)
		}
	}
	return nil
}
