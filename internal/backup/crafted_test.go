package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// crafted is a file in the form of a backup with right checksums, of entries that
// [Save] would not make. What is in them is zeros.
func crafted(tb testing.TB, manifest []byte, entries ...*tar.Header) []byte {
	tb.Helper()
	return craftedWith(tb, manifest, nil, entries...)
}

// craftedWith is crafted with contents, by the names of entries.
func craftedWith(tb testing.TB, manifest []byte, contents map[string][]byte, entries ...*tar.Header) []byte {
	tb.Helper()
	var out bytes.Buffer
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(&out, sum))
	for _, h := range append(entries, &tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Size: int64(len(manifest))}) {
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		content, given := contents[h.Name]
		switch {
		case h.Name == manifestName:
			content = manifest
		case !given:
			content = make([]byte, h.Size)
		}
		if _, err := w.Write(content); err != nil && h.Typeflag == tar.TypeReg {
			tb.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	end, err := seal(sum)
	if err != nil {
		tb.Fatal(err)
	}
	return append(out.Bytes(), end...)
}

// A file that somebody made, with checksums that are right, puts nothing but
// files of its own names into the new directory, and costs no more than it has.
func TestCraftedBackupsAreRefused(t *testing.T) {
	t.Parallel()
	manifest := func(parts ...Part) []byte {
		body, err := json.Marshal(Manifest{Format: format, Parts: parts})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	part := func(name string, size int64) Part {
		sum := sha256.Sum256(make([]byte, size))
		return Part{Name: name, Size: size, SHA256: hex.EncodeToString(sum[:])}
	}
	const key = "keys/a.nk"
	if err := readBytes(crafted(t, manifest(part(key, 3)), &tar.Header{Typeflag: tar.TypeReg, Name: key, Size: 3})); err != nil {
		t.Fatalf("one as it should be is refused: %v", err)
	}
	deep := strings.Repeat("[", 2_000_000)
	for name, content := range map[string][]byte{
		"a symbolic link":      crafted(t, manifest(part(key, 0)), &tar.Header{Typeflag: tar.TypeSymlink, Name: key, Linkname: "/etc/shadow"}),
		"a hard link":          crafted(t, manifest(part(key, 0)), &tar.Header{Typeflag: tar.TypeLink, Name: key, Linkname: "../../id"}),
		"a directory":          crafted(t, manifest(part("keys/", 0)), &tar.Header{Typeflag: tar.TypeDir, Name: "keys/"}),
		"a device":             crafted(t, manifest(part(key, 0)), &tar.Header{Typeflag: tar.TypeChar, Name: key, Devmajor: 1, Devminor: 5}),
		"a pipe":               crafted(t, manifest(part(key, 0)), &tar.Header{Typeflag: tar.TypeFifo, Name: key}),
		"a way out":            crafted(t, manifest(part("keys/../../a.nk", 3)), &tar.Header{Typeflag: tar.TypeReg, Name: "keys/../../a.nk", Size: 3}),
		"a way out by \\":      crafted(t, manifest(part(`keys/..\a.nk`, 3)), &tar.Header{Typeflag: tar.TypeReg, Name: `keys/..\a.nk`, Size: 3}),
		"a stream's way out":   crafted(t, []byte(`{"format":"rccs-backup/1","streams":[{"name":"../../x","part":"streams/s"}],"parts":[{"name":"streams/s"}]}`)),
		"a tenant's way out":   crafted(t, []byte(`{"format":"rccs-backup/1","streams":[{"name":"S","tenant":"../x","part":"streams/s"}],"parts":[{"name":"streams/s"}]}`)),
		"a part that is not":   crafted(t, manifest(part(key, 3))),
		"another size":         crafted(t, manifest(Part{Name: key, Size: -3}), &tar.Header{Typeflag: tar.TypeReg, Name: key, Size: 3}),
		"a name of zero bytes": crafted(t, manifest(part("keys/a\x00.nk", 3))),
		"no JSON":              crafted(t, []byte(`{"format":"rccs-backup/1","parts":`)),
		"JSON of other types":  crafted(t, []byte(`{"format":"rccs-backup/1","parts":{"name":1},"streams":"all"}`)),
		"JSON that is deep":    crafted(t, fmt.Appendf(nil, `{"format":"rccs-backup/1","parts":%s`, deep)),
		"a number too large":   crafted(t, []byte(`{"format":"rccs-backup/1","parts":[{"name":"keys/a.nk","size":1e400}]}`)),
	} {
		if err := readBytes(content); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// A size that is said and not there.
	huge := crafted(t, manifest(part(key, 3)), &tar.Header{Typeflag: tar.TypeReg, Name: key, Size: 3})
	copy(huge[124:136], "77777777777\x00")
	for i := range 8 {
		huge[148+i] = ' '
	}
	total := 0
	for _, b := range huge[:512] {
		total += int(b)
	}
	copy(huge[148:156], fmt.Sprintf("%06o\x00 ", total))
	if err := readBytes(huge); err == nil {
		t.Error("an entry of 8 GiB that has 3 bytes: taken")
	}
}
