package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rccs-io/rccs/internal/testkit"
)

func TestCommand_HelpTeaches(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"serve"}, {"creds"}, {"creds", "device"}, {"creds", "service"}, {"send"}, {"connect"}, {"version"}, {"completion"},
	} {
		help := must(t, append(args, "--help")...)
		name := strings.Join(append([]string{"rccs"}, args...), " ")
		if !strings.Contains(help, "Usage:\n  "+name) || len(help) < 150 {
			t.Errorf("%s --help:\n%s", name, help)
		}
	}
	for _, command := range []string{"serve", "creds device", "creds service", "send", "connect"} {
		if help := must(t, append(strings.Fields(command), "--help")...); !strings.Contains(help, "Examples:\n  rccs ") {
			t.Errorf("%s --help has no example", command)
		}
	}
}

func TestCommand_Completion(t *testing.T) {
	t.Parallel()
	if script := must(t, "completion", "bash"); !strings.Contains(script, "__start_rccs") {
		t.Errorf("completion bash: %.200s", script)
	}
	for _, shell := range []string{"zsh", "fish", "powershell"} {
		if script := must(t, "completion", shell); len(script) < 500 {
			t.Errorf("completion %s: %q", shell, script)
		}
	}
	// What the script asks when Tab is pressed.
	for line, want := range map[string]string{"": "serve", "cr": "creds", "creds ": "device", "serve --ad": "--admin-listen"} {
		words := strings.Split(line, " ")
		if out := must(t, append([]string{"__complete"}, words...)...); !strings.Contains(out, want) {
			t.Errorf("completing %q: %s", line, out)
		}
	}
	syntax := exec.CommandContext(t.Context(), "bash", "-n")
	if r := finish(t, must(t, "completion", "bash"), syntax); r.status != 0 {
		t.Errorf("bash does not read the script: %s", r.stderr)
	}
}

func TestCommand_Version(t *testing.T) {
	t.Parallel()
	if out := must(t, "version"); !strings.HasPrefix(out, "rccs ") || !strings.Contains(out, "nats-server v2.") {
		t.Errorf("version prints %q", out)
	}
}

func TestCommand_ExitStatuses(t *testing.T) {
	t.Parallel()
	s := use(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for line, want := range map[string]int{
		"nonsense":                        2,
		"--nonsense":                      2,
		"creds":                           2,
		"creds nonsense":                  2,
		"creds device":                    2,
		"creds device a/b c/d":            2,
		"creds device nouser":             2,
		"creds device /d":                 2,
		"creds device u/":                 2,
		"creds device -":                  2,
		"creds device a/b --expires soon": 2,
		"creds device a/b --expires -1h":  2,
		"creds device a/b --nonsense":     2,
		"creds service":                   2,
		"serve extra":                     2,
		"serve --log-level loud":          2,
		"send a/b":                        2,
		"send a/b {} --priority urgent":   2,
		"connect":                         2,
		"version extra":                   2,
		"serve --listen nonsense":         2,
		"serve --config " + missing:       1,
		"serve --data /proc/none":         1,
		"send a/b {} --data " + missing:   1,
		"send a/b {} --creds " + missing:  1,
		"connect a/b --creds " + missing:  1,
		"version":                         0,
		"help":                            0,
		"send a/b {} --server nats://127.0.0.1:1 --data " + s.data: 1,
	} {
		args := strings.Fields(line)
		if args[0] == "serve" && !strings.Contains(line, "--data") {
			args = append(args, "--data", filepath.Join(t.TempDir(), "data"))
		}
		if args[0] == "serve" && !strings.Contains(line, "--listen") {
			args = append(args, "--listen", "127.0.0.1:0")
		}
		if args[0] == "serve" {
			args = append(args, "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
		}
		r := rccs(t, "", args...)
		if r.status != want {
			t.Errorf("rccs %s: exit status %d, want %d\n%s", line, r.status, want, r.stderr)
		}
		if want != 0 && !strings.HasPrefix(r.stderr, "rccs: ") && args[0] != "serve" {
			t.Errorf("rccs %s says %q", line, r.stderr)
		}
		if want != 0 && r.stdout != "" {
			t.Errorf("rccs %s fails and prints %q", line, r.stdout)
		}
	}
}

func TestCommand_CredsWorkBeforeTheServerRan(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new", "data")
	token := strings.TrimSpace(must(t, "creds", "device", "alice/phone", "--bearer", "--init", "--data", data))
	file := parseCredentials(t, []byte(must(t, "creds", "device", "alice/phone", "--data", data)))
	private(t, data)
	s := &server{data: data, tokens: &mint{data: data}}
	s.begin(t)
	connect(t, s, "alice/phone", object{"authToken": token})
	d := registering(t, s, "alice/phone", dialing{}, func(d *device) object { return signed(d, file, "phone") })
	d.give("phone", 1, nil)
	private(t, data)
}

// private fails when anybody else could read something below dir.
func private(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // a file that came and went
			}
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it came and went
		}
		files++
		if path == dir && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", path, info.Mode())
		}
		if strings.Contains(path, "keys") && !info.IsDir() && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files in %s (%v)", files, dir, err)
	}
}

func TestCommand_CredsInBulk(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	const count = 2000
	var in strings.Builder
	for i := range count {
		fmt.Fprintf(&in, "%s/device %d\n", u, i)
	}
	begin := time.Now()
	r := rccs(t, in.String(), "creds", "device", "--bearer", "-", "--data", s.data, "--type", "mobile")
	t.Logf("%d tokens in %v", count, time.Since(begin))
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.status != 0 || len(lines) != count {
		t.Fatalf("exit status %d, %d lines\n%s", r.status, len(lines), r.stderr)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprintf("%s/device %d ", u, i)) || strings.Count(line, ".") < 2 {
			t.Fatalf("line %d is %.200q", i, line)
		}
	}
	last := lines[count-1]
	connect(t, s, fmt.Sprintf("%s/device %d", u, count-1), object{"authToken": last[strings.LastIndexByte(last, ' ')+1:]})

	r = rccs(t, u+"/ok\nnonsense\n"+u+"/never\n", "creds", "device", "--bearer", "-", "--data", s.data)
	if r.status != 1 || !strings.Contains(r.stderr, "line 2") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("a bad line: exit status %d\n%s\n%.200s", r.status, r.stderr, r.stdout)
	}
}

func TestCommand_SendAndConnect(t *testing.T) {
	t.Parallel()
	s, u := serverAndUser(t)
	installation := []string{"--data", s.data}
	send := append([]string{"send", u + "/phone"}, append(installation, "--server", s.NATS)...)
	for _, args := range [][]string{{`{"hello": "world"}`}, {`"first"`, "--priority", "critical", "--type", "alarm", "--id", u + " id"}, {"not JSON"}} {
		if out := must(t, append(send, args...)...); !strings.Contains(out, u+"/phone") {
			t.Errorf("send prints %q", out)
		}
	}
	s.caughtUp(t, u)
	be := append([]string{"connect", u + "/phone"}, append(installation, "--url", s.Devices)...)
	r := rccs(t, "", append(be, "--json", "--count", "3", "--timeout", patience.String())...)
	if r.status != 0 {
		t.Fatalf("connect: exit status %d\n%s", r.status, r.stderr)
	}
	var got []envelope
	for line := range strings.Lines(r.stdout) {
		var e envelope
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		got = append(got, e)
	}
	if len(got) != 3 {
		t.Fatalf("connect printed %d messages:\n%s", len(got), r.stdout)
	}
	if e := got[0]; string(e.Payload) != `"first"` || e.Type != "alarm" || e.ID != u+" id" || *e.Priority != 3 {
		t.Errorf("the critical one is %+v", e)
	}
	if e := got[1]; string(e.Payload) != `{"hello": "world"}` {
		t.Errorf("the second is %+v", e)
	}
	// It acknowledged them.
	if r := rccs(t, "", append(be, "--count", "1", "--timeout", "1s")...); r.status != 1 || strings.Contains(r.stdout, "hello") {
		t.Errorf("connect again: exit status %d\n%s", r.status, r.stdout)
	}
	// What is typed is sent.
	desktop := connect(t, s, u+"/desktop", nil)
	typed, said, ended := command(t.Context(), append(be, "--count", "1")...), new(testkit.Log), make(chan error, 1)
	typed.Stdin, typed.Stderr = strings.NewReader("desktop {\"typed\":1}\ndesktop words\n"), said
	if err := typed.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- typed.Wait() }()
	for _, want := range []string{`{"typed":1}`, `"words"`} {
		if e := desktop.message(); string(e.Payload) != want || e.FromDeviceID != "phone" {
			t.Errorf("want %s, got %s", want, e.raw)
		}
	}
	desktop.give("phone", "which ends it", nil)
	if err := testkit.Await(t, "the end of the connection", ended); err != nil {
		t.Errorf("connect with input: %v\n%s", err, said)
	}
}

func TestCommand_EnvironmentGivesFlags(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	cmd := command(t.Context(), "serve", "--admin-listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "RCCS_DATA="+data, "RCCS_LISTEN=127.0.0.1:0", "RCCS_NATS_LISTEN=127.0.0.1:0",
		"RCCS_ADMIN_LISTEN=nonsense", "RCCS_LOG_LEVEL=debug") // a flag wins
	p, err := startCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{process: p, data: data, tokens: &mint{data: data}}
	connect(t, s, "alice/phone", nil).beat()
	if err := s.tokens.close(); err != nil {
		t.Error(err)
	}
	if status, err := p.terminate(); status != 0 || err != nil {
		t.Errorf("exit status %d, %v", status, err)
	}
	if !strings.Contains(p.log.String(), `"level":"DEBUG"`) {
		t.Errorf("RCCS_LOG_LEVEL=debug had no effect")
	}
	bad := command(t.Context(), "creds", "device", "a/b", "--data", data)
	bad.Env = append(bad.Env, "RCCS_EXPIRES=soon")
	if r := finish(t, "", bad); r.status != 2 || !strings.Contains(r.stderr, "RCCS_EXPIRES") {
		t.Errorf("a bad variable: exit status %d\n%s", r.status, r.stderr)
	}
}

func TestCommand_SecondServerOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	p, err := startProcess(s.data)
	if err == nil {
		_ = p.kill()
		t.Fatal("two servers serve the same data directory")
	}
	connect(t, s, "alice/phone", nil).beat()
}

func TestCommand_LogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, "--log-level", "debug")
	token := s.token(t, "alice/phone")
	d := connect(t, s, "alice/phone", nil)
	d.give("phone", "the payload itself", nil)
	d.message()
	creds := s.signing(t, "alice/desktop")
	e := greeted(t, s, dialing{})
	e.send(object{"id": "x", "type": "device_register", "payload": object{"authToken": creds.jwt, "sig": creds.sign(t, "wrong")}})
	e.wantError("AUTH_ERROR")
	if status, err := s.terminate(); status != 0 || err != nil {
		t.Fatalf("exit status %d, %v", status, err)
	}
	log := s.log.String()
	seed, err := creds.key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string]string{"token": token, "JWT": creds.jwt, "seed": string(seed), "payload": "the payload itself"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a %s", what)
		}
	}
	if !strings.Contains(log, "alice") {
		t.Errorf("the log does not name the user")
	}
}
