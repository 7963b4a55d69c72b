package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
)

// item is an entry of a stream's archive.
type item struct {
	archive.Header
	body []byte
}

func named(name, body string) item {
	return item{archive.Header{Name: name, Timestamp: 1, PayloadSize: int64(len(body))}, []byte(body)}
}

// archiveOf is a stream's archive as a server writes it, of what a test says.
func archiveOf(tb testing.TB, items ...item) []byte {
	tb.Helper()
	var out bytes.Buffer
	compressed := s2.NewWriter(&out)
	w := archive.NewWriter(compressed)
	for _, one := range items {
		err := w.WriteHeader(&one.Header)
		if err == nil {
			_, err = w.Write(one.body)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := compressed.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// withStream is a backup with right checksums whose one stream has an archive.
func withStream(tb testing.TB, content []byte) string {
	tb.Helper()
	sum := sha256.Sum256(content)
	const part = "streams/RCCS_TOPIC.s2"
	m := Manifest{Format: format, Parts: []Part{{Name: part, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}}}
	m.Streams = []Stream{{Part: part}}
	m.Streams[0].Name, m.Streams[0].First, m.Streams[0].Last, m.Streams[0].Messages = "RCCS_TOPIC", 1, 1, 1
	m.Streams[0].Bytes, m.Streams[0].Config = uint64(len("rccs.topic.a"))+1, json.RawMessage(`{"name":"RCCS_TOPIC","subjects":["rccs.topic.>"]}`)
	manifest, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	entry := &tar.Header{Typeflag: tar.TypeReg, Name: part, Size: int64(len(content))}
	path := filepath.Join(tb.TempDir(), "crafted.tar")
	if err := os.WriteFile(path, craftedWith(tb, manifest, map[string][]byte{part: content}, entry), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// largeConsumers are as large as a consumer may be in an archive, and compress to
// nothing.
func largeConsumers(n int) (all []item) {
	for i := range n {
		name := fmt.Sprint("d", i)
		all = append(all, named("consumers/"+name, `{"config":{"durable_name":"`+name+`","name":"`+name+`"},"state":{}`+strings.Repeat(" ", 16<<20)+`}`))
	}
	return all
}

// A stream's archive within a backup is read by the NATS server, which believes it.
// So what this program does not write is refused before a server sees it, and
// before anything is made.
//
//nolint:paralleltest // what it measures is the memory of the whole process
func TestCraftedArchivesOfStreamsAreRefused(t *testing.T) {
	state := func(consumers string) item {
		return named("state.json", `{"first_seq":1,"last_seq":1,"messages":1,"consumer_count":`+consumers+`}`)
	}
	message := item{archive.Header{Name: "rccs.topic.a", Sequence: 1, Timestamp: 1, PayloadSize: 1}, []byte("1")}
	end := item{}
	consumer := func(name, config string) []byte {
		return archiveOf(t, state("1"), named(name, `{"config":`+config+`,"state":{}}`), message, end)
	}
	bomb := bytes.Repeat([]byte(" "), 640<<20)
	var old bytes.Buffer // the format of servers before 2.15: files
	compressed := s2.NewWriter(&old)
	files := tar.NewWriter(compressed)
	if err := errors.Join(files.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../../../escaped", Size: 1}), files.Close(), compressed.Close()); err == nil {
		t.Fatal("an entry without its content was written")
	}
	_ = compressed.Close()
	good := archiveOf(t, state("1"), named("consumers/d", `{"config":{"durable_name":"d","name":"d"},"state":{}}`), message, end)
	check := func(content []byte) error {
		f, err := Open(withStream(t, content), func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		return f.Check(func(int64, int64) {})
	}
	if err := check(good); err != nil {
		t.Fatalf("one as it should be is refused: %v", err)
	}
	var before, after runtime.MemStats
	for name, content := range map[string][]byte{
		"no archive":                        []byte("a letter"),
		"files":                             old.Bytes(),
		"a state that fills the memory":     archiveOf(t, item{archive.Header{Name: "state.json", Timestamp: 1, PayloadSize: int64(len(bomb))}, bomb}, end),
		"a consumer that is a bomb":         archiveOf(t, state("1"), item{archive.Header{Name: "consumers/d", PayloadSize: int64(len(bomb))}, bomb}, end),
		"consumers that are bombs together": archiveOf(t, append(append([]item{state("5")}, largeConsumers(5)...), message, end)...),
		"a consumer's way out":              consumer("consumers/../../d", `{"durable_name":"../../d"}`),
		"a consumer's way out by itself":    consumer("consumers/../../d", `{}`),
		"a consumer of another name":        consumer("consumers/d", `{"durable_name":"../../d"}`),
		"a consumer of two names":           consumer("consumers/d", `{"durable_name":"d","name":"../../d"}`),
		"a wildcard for a consumer":         consumer("consumers/>", `{"durable_name":">"}`),
		"consumers that are not there":      archiveOf(t, state("1000000000"), message, end),
		"fewer than no consumers":           archiveOf(t, state("-1"), named("consumers/d", `{}`), message, end),
		"no end":                            archiveOf(t, state("0"), message),
		"more messages than are said":       archiveOf(t, state("0"), message, item{archive.Header{Name: "rccs.topic.a", Sequence: 2, Timestamp: 1}, nil}, end),
		"no messages":                       archiveOf(t, state("0"), end),
		"a message without a place":         archiveOf(t, state("0"), item{archive.Header{Name: "rccs.topic.a", PayloadSize: 1}, []byte("1")}, end),
		"another place":                     archiveOf(t, named("state.json", `{"first_seq":1,"last_seq":18446744073709551615,"messages":1}`), message, end),
	} {
		runtime.ReadMemStats(&before)
		path := withStream(t, content)
		f, err := Open(path, func(int64, int64) {})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		data := filepath.Join(t.TempDir(), "new")
		err = Restore(t.Context(), f, RestoreOptions{Dir: data, Keys: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "RCCS_TOPIC") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s was made: %v", name, data, err)
		}
		_ = f.Close()
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 512<<20 {
			t.Errorf("%s: %d MiB of memory were used", name, (after.TotalAlloc-before.TotalAlloc)>>20)
		}
	}
}

// What a tenant's own parts have made beside RCCS's streams may be more than a
// backup can have. Then it is not made, rather than made and never restored.
func TestABackupThatNothingWouldRestoreIsNotMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "backup.tar")
	w, err := create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.abandon()
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	for n := range maxManifest >> 20 {
		s := Stream{Tenant: "acme"}
		s.Name, s.Config = fmt.Sprint("S", n), large
		w.m.Streams = append(w.m.Streams, s)
	}
	if _, err := w.seal(); err == nil || !strings.Contains(err.Error(), "tenant acme") {
		t.Errorf("told %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made: %v", path, err)
	}
}
