package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/testkit"
	"github.com/rccs-io/rccs/subjects"
)

// outcome is what a command left behind.
type outcome struct {
	status   int
	out, err string
}

// rccs runs a command line with standard input and environment, in process.
func rccs(t *testing.T, in string, vars map[string]string, args ...string) outcome {
	t.Helper()
	var out, err bytes.Buffer
	env := &environment{in: strings.NewReader(in), out: &out, err: &err, lookup: func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	}}
	status := env.run(t.Context(), args)
	return outcome{status, out.String(), err.String()}
}

// succeeds returns the standard output of a command that has to succeed
// without a word to people.
func succeeds(t *testing.T, in string, args ...string) string {
	t.Helper()
	got := rccs(t, in, nil, args...)
	if got.status != exitOK || got.err != "" {
		t.Fatalf("rccs %q: status %d, %s", args, got.status, got.err)
	}
	return got.out
}

// madeKeys is a data directory that has keys.
func madeKeys(t testing.TB) (string, *auth.Keystore) {
	t.Helper()
	dir := t.TempDir()
	keys, err := auth.OpenKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, keys
}

func identify(t *testing.T, keys *auth.Keystore, token string) auth.Identity {
	t.Helper()
	v, err := auth.NewVerifier(keys.Account().JWT)
	if err != nil {
		t.Fatal(err)
	}
	id, err := v.Verify(token, time.Now())
	if err != nil {
		t.Fatalf("%q: %v", token, err)
	}
	return id
}

func lasts(id auth.Identity) time.Duration { return id.Expires.Sub(id.IssuedAt).Round(time.Minute) }

// A credential that has ended is refused as any other is: the file says why.
func TestAFileOfACredentialThatHasEndedSaysSo(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	path := file(t, console{}.succeed(t, "creds", "device", "alice/phone", "--expires", "1s", "--init", "--data", data).out)
	testkit.Eventually(t, "the end of the credential", func() bool { return strings.Contains(credsHint(path, "alice/phone"), path+" ended at ") })
	if got := credsHint(path, "bob/phone"); !strings.Contains(got, "the credential of alice/phone") {
		t.Errorf("used for another device: %q", got)
	}
	lasting := file(t, console{}.succeed(t, "creds", "service", "billing", "--data", data).out)
	if got := credsHint(lasting, ""); got != "" {
		t.Errorf("one that has not ended: %q", got)
	}
}

// Files that cannot be used are named as they were given, not as what was tried
// beside them.
func TestFilesAreNamedAsTheyWereGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, out := filepath.Join(dir, "data"), filepath.Join(dir, "none", "x.creds")
	console{}.succeed(t, "creds", "service", "x", "--init", "--data", data)
	console{}.run(t, "creds", "part", "edges", "--data", data, "--out", out).refused(t, exitFailed, "--out: write "+out+": no such file")
	console{}.run(t, "enroll", "--code", "x", "--out", out).refused(t, exitFailed, "--out: write "+out+": no such file")
	junk := file(t, "junk")
	console{}.run(t, "status", "--creds", junk).refused(t, exitFailed, "--creds "+junk, "'rccs creds'")
	console{}.run(t, "enroll", "renew", "--creds", junk).refused(t, exitFailed, "--creds "+junk, "'rccs enroll'")
	for _, from := range []string{filepath.Join(dir, "none"), dir} {
		console{}.run(t, "serve", "--data", data, "--keys-from", from).refused(t, exitFailed, from, "there is no operator.jwt", "DATA/keys")
	}
	console{}.run(t, "healthcheck", "--admin-listen", "127.0.0.1:1").refused(t, exitFailed, "127.0.0.1:1", "--admin-listen")
}

func TestCredsDevicePrintsCredsFile(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	cred, err := auth.ParseCredential([]byte(succeeds(t, "", "creds", "device", "alice/my phone", "--data", dir, "--type", "Mobile")))
	if err != nil {
		t.Fatal(err)
	}
	id := identify(t, keys, cred.JWT)
	if id.Address.String() != "alice/my phone" || id.Type != "Mobile" || id.Bearer || lasts(id) != 720*time.Hour {
		t.Errorf("identity %+v", id)
	}
}

func TestCredsDeviceBearerPrintsTokenOnly(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	out := succeeds(t, "", "creds", "device", "alice/phone", "--bearer", "--expires", "30d", "--data", dir)
	token, end, ok := strings.Cut(out, "\n")
	if !ok || end != "" {
		t.Fatalf("want one line: %q", out)
	}
	if id := identify(t, keys, token); !id.Bearer || lasts(id) != 30*24*time.Hour {
		t.Errorf("identity %+v", id)
	}
}

func TestCredsServicePrintsCredsFile(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	cred, err := auth.ParseCredential([]byte(succeeds(t, "", "creds", "service", "billing", "--data", dir, "--expires", "90m")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(keys.Account().Services)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(cred.JWT, time.Now()); !errors.Is(err, auth.ErrNotDevice) {
		t.Errorf("taken for a device: %v", err)
	}
	if _, err := v.Verify(cred.JWT, time.Now().Add(2*time.Hour)); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
}

func TestCredsMakesKeysOnceAndSaysSo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := rccs(t, "", nil, "creds", "device", "alice/phone", "--data", dir, "--init")
	want := "rccs: made the operator's keys in " + filepath.Join(dir, "keys") + "\n"
	if first.status != exitOK || first.err != want {
		t.Fatalf("status %d, said %q, want %q", first.status, first.err, want)
	}
	if _, err := auth.ParseCredential([]byte(first.out)); err != nil {
		t.Errorf("the note is in the way: %v", err)
	}
	succeeds(t, "", "creds", "service", "billing", "--data", dir)
}

// One line of standard input is one name, whatever it contains; the token
// follows the last space.
func TestCredsReadsNamesFromStandardInput(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	names := []string{"alice/phone", "alice/my phone", "bob/a\tb", "bob/ends in a space ", " carol/x", "d/e/f", "日本/電話"}
	in := strings.Join(names[:3], "\n") + "\r\n\n" + strings.Join(names[3:], "\n") // an empty line; no end of the last
	out := succeeds(t, in, "creds", "device", "--bearer", "-", "--data", dir, "--type", "mobile", "--expires", "1h")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(names) {
		t.Fatalf("%d lines, want %d", len(lines), len(names))
	}
	for i, line := range lines {
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || line[:space] != names[i] {
			t.Fatalf("line %d is %q, want %q and a token", i+1, line, names[i])
		}
		id := identify(t, keys, line[space+1:])
		if id.Address.String() != names[i] || !id.Bearer || id.Type != "mobile" || lasts(id) != time.Hour {
			t.Errorf("%q: identity %+v", names[i], id)
		}
	}
	if out := succeeds(t, "", "creds", "device", "--bearer", "-", "--data", dir); out != "" {
		t.Errorf("no lines were answered with %q", out)
	}
}

func TestCredsNamesTheBadLine(t *testing.T) {
	t.Parallel()
	dir, _ := madeKeys(t)
	for bad, why := range map[string]string{
		"alice":                            "not USER/DEVICE",
		"/phone":                           "user is empty",
		"alice/" + string(rune(0x7f)):      "control character",
		"alice/\xff":                       "UTF-8",
		"a/" + strings.Repeat("x", 10_000): "longer than 4096 bytes",
	} {
		got := rccs(t, "alice/phone\n\n"+bad+"\nbob/phone\n", nil, "creds", "device", "--bearer", "-", "--data", dir)
		if got.status != exitFailed || !strings.HasPrefix(got.err, "rccs: standard input, line 3: ") || !strings.Contains(got.err, why) {
			t.Errorf("%.40q: status %d, %s", bad, got.status, got.err)
		}
		if !strings.HasPrefix(got.out, "alice/phone ") || strings.Count(got.out, "\n") != 1 {
			t.Errorf("%.40q: the line before it was answered with %q", bad, got.out)
		}
	}
}

// A program that writes a name and waits for its token gets it.
func TestCredsAnswersEachLineAsItComes(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	in, names := io.Pipe()
	tokens, out := io.Pipe()
	env := &environment{in: in, out: out, err: io.Discard, lookup: func(string) (string, bool) { return "", false }}
	done := make(chan int)
	go func() { done <- env.run(t.Context(), []string{"creds", "device", "--bearer", "-", "--data", dir}) }()
	answers := bufio.NewReader(tokens)
	for _, name := range []string{"alice/phone", "bob/phone"} {
		if _, err := io.WriteString(names, name+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id := identify(t, keys, strings.TrimSpace(strings.TrimPrefix(line, name+" "))); id.Address.String() != name {
			t.Errorf("%s was answered with a token of %v", name, id.Address)
		}
	}
	if err := names.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != exitOK {
		t.Errorf("status %d", status)
	}
}

// full is a disk without space.
type full struct{}

var errFull = errors.New("no space")

func (full) Write([]byte) (int, error) { return 0, errFull }

// broken is an input that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errFull }

func TestCredsFailsWhenItCannotReadOrWrite(t *testing.T) {
	t.Parallel()
	dir, _ := madeKeys(t)
	for _, args := range [][]string{
		{"creds", "device", "alice/phone"},
		{"creds", "device", "alice/phone", "--bearer"},
		{"creds", "device", "-", "--bearer"},
		{"creds", "service", "billing"},
	} {
		var said bytes.Buffer
		env := &environment{in: strings.NewReader("alice/phone\n"), out: full{}, err: &said, lookup: func(string) (string, bool) { return "", false }}
		if status := env.run(t.Context(), append(args, "--data", dir)); status != exitFailed || said.String() != "rccs: no space\n" {
			t.Errorf("%q: status %d, %s", args, status, said.String())
		}
	}
	var said bytes.Buffer
	env := &environment{in: broken{}, out: io.Discard, err: &said, lookup: func(string) (string, bool) { return "", false }}
	if status := env.run(t.Context(), []string{"creds", "device", "-", "--bearer", "--data", dir}); status != exitFailed || said.String() != "rccs: standard input, line 1: no space\n" {
		t.Errorf("status %d, %s", status, said.String())
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := rccs(t, "", nil, "creds", "service", "x", "--data", file); got.status != exitFailed || !strings.HasPrefix(got.err, "rccs: --data "+file) || strings.Count(got.err, "\n") != 1 {
		t.Errorf("keys in a file: status %d, %s", got.status, got.err)
	}
}

// Bad usage is told with status 2, once, before any key is made.
func TestCredsBadUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"creds"}, "subcommand"},
		{[]string{"creds", "robot", "x"}, "robot"},
		{[]string{"creds", "device"}, "USER/DEVICE"},
		{[]string{"creds", "device", "a/b", "c/d"}, "USER/DEVICE"},
		{[]string{"creds", "device", "alice"}, "USER/DEVICE"},
		{[]string{"creds", "device", "alice/\n"}, "control character"},
		{[]string{"creds", "device", "-"}, "--bearer"},
		{[]string{"creds", "device", "a/b", "--type", "\x01"}, "control character"},
		{[]string{"creds", "device", "a/b", "--colour"}, "--colour"},
		{[]string{"creds", "device", "a/b", "--bearer=perhaps"}, "--bearer"},
		{[]string{"creds", "service"}, "NAME"},
		{[]string{"creds", "service", ""}, "empty"},
		{[]string{"creds", "service", "alice/phone"}, "'/'"},
		{[]string{"creds", "service", "operator"}, "another name"},
		{[]string{"creds", "service", "Nats"}, "another name"},
		{[]string{"creds", "service", "x", "--bearer=perhaps"}, "--bearer"},
	} {
		badUsage(t, c.args, c.want)
	}
	for _, expires := range []string{"0", "-1h", "0d", "-3d", "500ms", "soon", "d", "NaNd", "Infd", "1e300d", "100001d", "30", ""} {
		badUsage(t, []string{"creds", "service", "x", "--expires", expires}, "--expires")
		badUsage(t, []string{"creds", "device", "a/b", "--expires", expires}, "--expires")
	}
}

func badUsage(t *testing.T, args []string, want string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	got := rccs(t, "", map[string]string{"RCCS_DATA": dir}, args...)
	if got.status != exitUsage || got.out != "" || !strings.HasPrefix(got.err, "rccs: ") || !strings.Contains(got.err, want) {
		t.Errorf("rccs %q: status %d, printed %q, said %q; want %q", args, got.status, got.out, got.err, want)
	}
	if strings.Count(got.err, "rccs: ") != 1 {
		t.Errorf("rccs %q: said twice: %q", args, got.err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("rccs %q: made %s", args, dir)
	}
}

func TestCredsFlagsHaveVariables(t *testing.T) {
	t.Parallel()
	dir, keys := madeKeys(t)
	vars := map[string]string{"RCCS_DATA": dir, "RCCS_BEARER": "true", "RCCS_TYPE": "mobile", "RCCS_EXPIRES": "2d"}
	got := rccs(t, "", vars, "creds", "device", "alice/phone", "--type", "desktop")
	if got.status != exitOK {
		t.Fatalf("status %d, %s", got.status, got.err)
	}
	id := identify(t, keys, strings.TrimSpace(got.out))
	if !id.Bearer || id.Type != "desktop" || lasts(id) != 48*time.Hour {
		t.Errorf("identity %+v; want the flag's type, and the rest from the environment", id)
	}
	for name, value := range map[string]string{"RCCS_BEARER": "perhaps", "RCCS_EXPIRES": "soon"} {
		got := rccs(t, "", map[string]string{"RCCS_DATA": dir, name: value}, "creds", "device", "alice/phone")
		if got.status != exitUsage || !strings.Contains(got.err, name) {
			t.Errorf("%s=%s: status %d, %s", name, value, got.status, got.err)
		}
	}
}

func TestCredsHelpTeaches(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"device", "service"} {
		out := strings.Join(strings.Fields(succeeds(t, "", "creds", command, "--help")), " ") // lines end where they may
		for _, want := range []string{"rccs creds " + command + " ", "Examples:", "--data", "(default \"./data\")", "--expires"} {
			if !strings.Contains(out, want) {
				t.Errorf("creds %s --help lacks %q:\n%s", command, want, out)
			}
		}
	}
	if out := succeeds(t, "", "creds", "device", "--help"); !strings.Contains(out, "(default 720h)") {
		t.Errorf("the default expiry is not told:\n%s", out)
	}
}

func TestDurationIsReadBack(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "10s": 10 * time.Second, "90m": 90 * time.Minute, "10m": 10 * time.Minute, "10h": 10 * time.Hour, "1h0m30s": time.Hour + 30*time.Second,
		"1.5d": 36 * time.Hour, "30d": 720 * time.Hour, "100000d": 2_400_000 * time.Hour,
	} {
		var d, back duration
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s is %s, %v", text, time.Duration(d), err)
		}
		if err := back.Set(d.String()); err != nil || back != d {
			t.Errorf("%s is shown as %s, which is %s, %v", text, d.String(), time.Duration(back), err)
		}
	}
}

// devices are lines of standard input.
func devices(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprintf("device-%d", i))})
	}
	return b.String()
}

// How long they take is for [BenchmarkTokens] to say: about a second, of the ten
// that are promised.
func TestTokensOfManyDevicesComeInOrder(t *testing.T) {
	t.Parallel()
	dir, _ := madeKeys(t)
	names := devices(2000)
	out := succeeds(t, names, "creds", "device", "--bearer", "-", "--data", dir)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i, name := range strings.Split(strings.TrimSuffix(names, "\n"), "\n") {
		if i >= len(lines) || !strings.HasPrefix(lines[i], name+" ") {
			t.Fatalf("line %d is not a token of %s", i+1, name)
		}
	}
}

func BenchmarkTokens(b *testing.B) {
	_, keys := madeKeys(b)
	const lines = 1000
	in := devices(lines)
	for b.Loop() {
		env := &environment{in: strings.NewReader(in), out: io.Discard}
		if err := env.tokens(keys, keys.RecordIssued(), auth.DeviceOptions{Bearer: true}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*lines)/b.Elapsed().Seconds(), "tokens/s")
}
