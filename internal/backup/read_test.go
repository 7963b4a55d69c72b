package backup

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/snapshot"
)

// sealed makes a file with parts.
func sealed(tb testing.TB, change func(*Manifest), parts ...string) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "b.tar")
	w, err := create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.abandon()
	for _, name := range parts {
		if err := w.add(name, int64(len(name)), strings.NewReader(name)); err != nil {
			tb.Fatal(err)
		}
	}
	if change != nil {
		change(&w.m)
	}
	if _, err := w.seal(); err != nil {
		tb.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return content
}

func readBytes(content []byte) error {
	_, _, err := read(bytes.NewReader(content), int64(len(content)), func(int64, int64) {})
	return err
}

// A manifest with right checksums can still make no sense.
func TestManifestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	good := []string{"keys/a.nk", "accounts/b.jwt", "nats.conf", "streams/S.s2"}
	stream := Stream{Stream: snapshot.Stream{Name: "S"}, Part: "streams/S.s2"}
	if err := readBytes(sealed(t, func(m *Manifest) { m.Streams = []Stream{stream} }, good...)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Manifest)
		parts  []string
		want   string
	}{
		"later format":     {func(m *Manifest) { m.Format = "rccs-backup/2" }, good, "rccs-backup/2"},
		"way out":          {nil, []string{"keys/../../x.nk"}, "not of a backup"},
		"absolute":         {nil, []string{"/etc/x.nk"}, "not of a backup"},
		"hidden":           {nil, []string{"keys/.lock.nk"}, "not of a backup"},
		"below":            {nil, []string{"keys/a/b.nk"}, "not of a backup"},
		"unknown":          {nil, []string{"letter"}, "not of a backup"},
		"twice":            {nil, []string{"keys/a.nk", "keys/a.nk"}, "twice"},
		"part missing":     {func(m *Manifest) { m.Parts = m.Parts[1:] }, good, "parts"},
		"other checksum":   {func(m *Manifest) { m.Parts[0].SHA256 = m.Parts[1].SHA256 }, good, "keys/a.nk"},
		"stream twice":     {func(m *Manifest) { m.Streams = []Stream{stream, stream} }, good, "twice"},
		"stream elsewhere": {func(m *Manifest) { m.Streams = []Stream{{Stream: stream.Stream, Part: "keys/a.nk"}} }, good, "S"},
		"stream's name":    {func(m *Manifest) { m.Streams = []Stream{{Stream: snapshot.Stream{Name: "a.>"}, Part: stream.Part}} }, good, `"a.>"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := readBytes(sealed(t, c.change, c.parts...)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	good := sealed(f, nil, "keys/a.nk", "streams/S.s2")
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		m, parts, err := read(bytes.NewReader(content), int64(len(content)), func(int64, int64) {})
		if err != nil {
			return
		}
		for _, p := range m.Parts {
			if parts[p.Name] == nil || checkPart(p.Name) != nil {
				t.Errorf("part %q", p.Name)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":"rccs-backup/1","streams":[{"name":"S","part":"streams/S.s2"}],"parts":[{"name":"streams/S.s2"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseManifest(body)
		if err != nil {
			return
		}
		for i := range m.Streams {
			if strings.ContainsAny(m.Streams[i].Name, ".*> /\\") || m.Streams[i].Name == "" {
				t.Errorf("stream %q", m.Streams[i].Name)
			}
		}
		for _, p := range m.Parts {
			if strings.Contains(p.Name, "..") && !strings.HasPrefix(p.Name, streamsPrefix) {
				t.Errorf("part %q", p.Name)
			}
		}
	})
}
