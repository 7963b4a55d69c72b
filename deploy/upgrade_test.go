package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// In testdata is a data directory and a backup of each format that there was, and
// the credential of a device, alice/phone. It was sent messages 1, 2 and 3, and
// has acknowledged the first. What it has not is either delivered or, when
// retention has taken it by the day of the test, told as gone.
//
// format-0 is from before the format had a number, with nats-server 2.15.2.

// formats are the directories of testdata.
func formats(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/format-*")
	check(t, err)
	if len(all) < 2 {
		t.Fatalf("testdata holds %q", all)
	}
	return all
}

// unzipped opens a file that is compressed.
func unzipped(t *testing.T, path string) io.Reader {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	z, err := gzip.NewReader(bytes.NewReader(content))
	check(t, err)
	return z
}

// unpack unpacks data.tar.gz of a format, and returns the data directory.
func unpack(t *testing.T, format string) string {
	t.Helper()
	root := t.TempDir()
	for r := tar.NewReader(unzipped(t, filepath.Join(format, "data.tar.gz"))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(root, "data")
		}
		check(t, err)
		path := filepath.Join(root, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			check(t, os.MkdirAll(path, 0o700))
			continue
		}
		content, err := io.ReadAll(r)
		check(t, err)
		check(t, os.WriteFile(path, content, 0o600))
	}
}

// goesOn serves a data directory with today's program, and checks that the device
// finds everything that it was sent.
func goesOn(t *testing.T, format, data string) {
	t.Helper()
	out := start(t, program, "serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	s := &server{data: data, devices: after(t, out, "devices", "ws://"), nats: after(t, out, "nats", "nats://")}
	if text, err := os.ReadFile(filepath.Join(data, "FORMAT")); err != nil || string(text) != "rccs-data/1\n" {
		t.Errorf("its format is %q now, %v", text, err)
	}
	sent := command(t, "send", "alice/phone", `{"n":4}`, "--id", "m4", "--data", data, "--server", "nats://"+s.nats)
	if !strings.Contains(sent, "seq 4,") {
		t.Errorf("the next message was %q", sent)
	}
	creds := filepath.Join(t.TempDir(), "phone.creds")
	content, err := os.ReadFile(filepath.Join(format, "phone.creds"))
	check(t, err)
	check(t, os.WriteFile(creds, content, 0o600))
	device := start(t, program, "connect", "alice/phone", "--creds", creds, "--url", "ws://"+s.devices)
	testkit.Eventually(t, "the device has everything, or was told what is gone", func() bool {
		got := device.String()
		return accounted(t, got) == 2 && strings.Contains(got, `{"n":4}`)
	})
	if strings.Contains(device.String(), `{"n":1}`) {
		t.Errorf("what was acknowledged came again:\n%s", device)
	}
}

var gone = regexp.MustCompile(`gone before (?:it was|they were) read: (\d+) message`)

// accounted is how many of messages 2 and 3 came, or are said to be gone.
func accounted(t *testing.T, printed string) int {
	t.Helper()
	n := strings.Count(printed, `{"n":2}`) + strings.Count(printed, `{"n":3}`)
	for _, m := range gone.FindAllStringSubmatch(printed, -1) {
		count, err := strconv.Atoi(m[1])
		check(t, err)
		n += count
	}
	return n
}

func TestADataDirectoryOfEachFormatIsTaken(t *testing.T) {
	t.Parallel()
	for _, format := range formats(t) {
		t.Run(filepath.Base(format), func(t *testing.T) {
			t.Parallel()
			goesOn(t, format, unpack(t, format))
		})
	}
}

func TestABackupOfEachFormatIsTaken(t *testing.T) {
	t.Parallel()
	for _, format := range formats(t) {
		t.Run(filepath.Base(format), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "backup.tar")
			content, err := io.ReadAll(unzipped(t, filepath.Join(format, "backup.tar.gz")))
			check(t, err)
			check(t, os.WriteFile(file, content, 0o600))
			command(t, "backup", "verify", file)
			data := filepath.Join(t.TempDir(), "data")
			command(t, "restore", file, "--data", data)
			goesOn(t, format, data)
		})
	}
}

func TestADataDirectoryOfALaterFormatIsRefused(t *testing.T) {
	t.Parallel()
	data := unpack(t, formats(t)[0])
	check(t, os.WriteFile(filepath.Join(data, "FORMAT"), []byte("rccs-data/2\n"), 0o600))
	before, err := os.ReadFile(filepath.Join(data, "keys", "default.jwt"))
	check(t, err)
	out := start(t, program, "serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	testkit.Eventually(t, "it says why it does not start", func() bool {
		return strings.Contains(out.String(), "has format 2, and this program knows formats up to 1")
	})
	if now, err := os.ReadFile(filepath.Join(data, "keys", "default.jwt")); err != nil || !bytes.Equal(now, before) {
		t.Errorf("the keys were changed, %v", err)
	}
}
