package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Who stops a command, or waits too long, is told so in words of their own.
func TestAnErrorDoesNotSpeakOfContexts(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		fmt.Errorf("node: JetStream does not answer: %w", context.DeadlineExceeded): "JetStream does not answer: it took too long",
		context.Canceled: "it was stopped",
	} {
		if got := plain(err); got != want {
			t.Errorf("%v is told as %q, want %q", err, got, want)
		}
	}
}

func TestWrongCommandLinesAreBadUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line string
		want []string
	}{
		{"nosuch", []string{`"nosuch"`, "'rccs --help'"}},
		{"sned", []string{"Did you mean", "send"}},
		{"--nosuch", []string{"--nosuch", "'rccs --help'"}},
		{"-z", []string{"-z"}},
		{"help nosuch", []string{`"nosuch"`}},
		{"help creds nosuch", []string{`"creds nosuch"`}},
		{"completion", []string{"subcommand", "'rccs completion --help'"}},
		{"completion nosuch", []string{`"nosuch"`}},
		{"completion bash more", []string{`"more"`, "'rccs completion bash --help'"}},
		{"version more", []string{"1 argument given", "want none", "'rccs version --help'"}},
		{"version --nosuch", []string{"--nosuch"}},
		{"serve more", []string{"1 argument given", "want none", "'rccs serve --help'"}},
		{"serve --nosuch", []string{"--nosuch"}},
		{"serve --data", []string{"--data"}},
		{"serve --log-level loud", []string{"--log-level", `"loud"`, "debug, info, warn or error"}},
		{"creds", []string{"subcommand", "'rccs creds --help'"}},
		{"creds nosuch", []string{`"nosuch"`, "'rccs creds --help'"}},
		{"creds device", []string{"0 arguments given", "USER/DEVICE", "'rccs creds device --help'"}},
		{"creds device a/b c/d", []string{"2 arguments given", "USER/DEVICE"}},
		{"creds device alice", []string{`"alice"`, "USER/DEVICE"}},
		{"creds device a/b --nosuch", []string{"--nosuch"}},
		{"creds device a/b --bearer=perhaps", []string{"--bearer", "perhaps"}},
		{"creds service", []string{"0 arguments given", "NAME", "'rccs creds service --help'"}},
		{"creds service a b", []string{"2 arguments given", "NAME"}},
		{"creds service alice/phone", []string{`"alice/phone"`, "'/'"}},
		{"send a/b", []string{"1 argument given", "PAYLOAD", "'rccs send --help'"}},
		{"send a/b 1 2", []string{"3 arguments given", "PAYLOAD"}},
		{"send alice 1", []string{`"alice"`, "USER/DEVICE"}},
		{"send a/b 1 --priority urgent", []string{"--priority", `"urgent"`, "low, normal, high or critical"}},
		{"send a/b 1 --type Alarm", []string{"--type", `"Alarm"`, "lower-case"}},
		{"send a/b 1 --id \x01", []string{"--id", "printable"}},
		{"connect", []string{"0 arguments given", "USER/DEVICE", "'rccs connect --help'"}},
		{"connect alice", []string{`"alice"`, "USER/DEVICE"}},
		{"connect a/b --type Alarm", []string{"--type", `"Alarm"`, "lower-case"}},
		{"connect a/b --topic a..b", []string{"--topic", `"a..b"`}},
		{"connect a/b --topic ,", []string{"--topic", "commas"}},
		{"connect a/b --since tomorrow", []string{"--since", `"tomorrow"`, "last"}},
		{"connect a/b --count many", []string{"--count", "many"}},
		{"connect a/b --count -1", []string{"--count", "-1"}},
		{"connect a/b --timeout -1s", []string{"--timeout", "-1s"}},
		{"connect a/b --timeout 30", []string{"--timeout", `"30"`}},
		{"enroll", []string{"--code", "--token-file"}},
		{"enroll nosuch", []string{"1 argument given", "want none", "'rccs enroll --help'"}},
		{"enroll --code x", []string{"--out"}},
		{"enroll --token-file x --out y", []string{"--device"}},
		{"enroll --code x --out y --device \x01", []string{"--device"}},
		{"enroll renew", []string{"--creds"}},
		{"enroll code", []string{"--user"}},
		{"enroll code --user a/b", []string{`"a/b"`, "'/'"}},
		{"enroll code --user a --expires 2d", []string{"--expires", "24h"}},
		{"serve --oidc-issuer https://a.example", []string{"--oidc-audience"}},
		{"serve --oidc-jwks keys.json", []string{"--oidc-issuer"}},
		{"serve --enroll-life 40d", []string{"--enroll-renew-for"}},
		{"missed", []string{"0 arguments given", "USER/DEVICE", "'rccs missed --help'"}},
		{"missed alice", []string{`"alice"`, "USER/DEVICE"}},
		{"missed a/b --limit many", []string{"--limit", "many"}},
		{"replay a/b", []string{"--since", "--from-seq", "--id", "--missed", "'rccs replay --help'"}},
		{"replay a/b --missed --since 1h", []string{"one of"}},
		{"replay a/b --since -1h", []string{"--since", "-1h"}},
		{"serve --nats-listen nowhere", []string{"--nats-listen", `"nowhere"`, "HOST:PORT"}},
		{"serve --listen 127.0.0.1:http", []string{"--listen", "HOST:PORT"}},
		{"connect a/b --url nonsense", []string{"--url nonsense", "ws://HOST:PORT"}},
		{"replay a/b --since tomorrow", []string{"--since", "30d", "yesterday"}},
		{"replay a/b --missed --to c", []string{"--to", `"c"`, "USER/DEVICE"}},
		{"inbox", []string{"subcommand", "'rccs inbox --help'"}},
		{"devices", []string{"subcommand", "'rccs devices --help'"}},
		{"devices ls a b", []string{"2 arguments given", "at most USER"}},
		{"devices ls --after x", []string{"--after", `"x"`}},
		{"devices show alice", []string{`"alice"`, "USER/DEVICE"}},
		{"edges ls more", []string{"1 argument given", "want none"}},
		{"trace", []string{"0 arguments given", "ID", "'rccs trace --help'"}},
		{"trace a b/", []string{"device"}},
		{"trace a --since 0", []string{"--since"}},
		{"status --interval -1s", []string{"--interval", "-1s"}},
		{"doctor more", []string{"1 argument given", "want none"}},
		{"tail a b", []string{"2 arguments given", "USER or USER/DEVICE"}},
		{"tail a/", []string{"device"}},
		{"tail --kinds inbox,acks", []string{"--kinds", `"acks"`, "inbox, up, signal, event, cursor"}},
		{"tail --timeout -1s", []string{"--timeout", "-1s"}},
		{"inbox ls a b", []string{"2 arguments given", "at most USER"}},
		{"inbox ls a/b", []string{`"a/b"`, "'/'"}},
		{"inbox ls --sort size", []string{"--sort", `"size"`, "name, stored, unacknowledged, oldest"}},
		{"inbox ls --after x", []string{"--after", `"x"`}},
		{"inbox ls --after a/b --sort stored", []string{"--after", "--sort name"}},
		{"inbox show", []string{"USER/DEVICE"}},
		{"inbox purge a/b", []string{"--yes", "--acknowledged"}},
		{"inbox rejected a/b c/d", []string{"2 arguments given", "USER or USER/DEVICE"}},
		{"inbox rejected a/", []string{"device"}},
		{"inbox rejected --drop --yes", []string{"--drop", "USER/DEVICE"}},
		{"inbox rejected a/b --drop", []string{"--yes"}},
		{"inbox rejected a/b --id x", []string{"--drop"}},
		{"replay a/b --missed --rejected", []string{"one of"}},
		{"serve --max-delay 0", []string{"--max-delay", "30d"}},
		{"later", []string{"subcommand", "'rccs later --help'"}},
		{"revoke all --yes --before=", []string{"--before", "want a time"}},
		{"revoke undo", []string{"0 arguments given", "device, user or service", "'rccs revoke undo --help'"}},
		{"revoke undo a b c", []string{"3 arguments given", "device, user or service"}},
		{"revoke undo alice/phone", []string{`"alice/phone"`, "device, user or service"}},
		{"revoke undo device", []string{"which device", "NAME"}},
		{"revoke undo device alice", []string{`"alice"`, "USER/DEVICE"}},
		{"revoke undo all alice", []string{"all", `"alice"`}},
		{"healthcheck a", []string{"1 argument given", "want none"}},
		{"edges drain a b", []string{"2 arguments given", "at most EDGE"}},
		{"tenants set a/b", []string{`"a/b"`, "letters"}},
		{"tenants rm A", []string{`"A"`, "letters"}},
		{"later ls a b", []string{"2 arguments given", "USER or USER/DEVICE"}},
		{"later cancel a", []string{"1 argument given", "USER and ID"}},
		{"later cancel a/b x", []string{`"a/b"`, "'/'"}},
		{"later cancel a \x01", []string{"id", "printable"}},
		{"status --server ::", []string{"--server", "nats://HOST:PORT"}},
		{"status --server http://x", []string{"--server http://x", "nats://HOST:PORT"}},
		{"restore b.tar --cluster nats://", []string{"--cluster", "nats://HOST:PORT"}},
		{"bench latency --url nonsense", []string{"--url nonsense", "ws://HOST:PORT"}},
		{"enroll renew --creds x --url nonsense", []string{"--url nonsense", "ws://HOST:PORT"}},
		{"bench idle --admin nonsense", []string{"--admin nonsense", "http://HOST:PORT"}},
		{"status --tenant a/b", []string{"--tenant", `"a/b"`}},
		{"restore b.tar --tenant acme", []string{"--tenant acme: rccs restore is about the whole installation"}},
		{"creds device a/b --type \x01", []string{"--type", "U+0001"}},
		{"connect a/b --device-type \x01", []string{"--device-type", "U+0001"}},
		{"creds system --name a/b", []string{"--name", "'/'"}},
		{"enroll code --user a --device \x01", []string{"--device"}},
		{"tenants add a --max-devices -1", []string{"--max-devices -1"}},
		{"inbox purge a/b --yes --lane urgent", []string{"--lane", `"urgent"`}},
	} {
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			nowhere := filepath.Join(t.TempDir(), "data")
			console{vars: map[string]string{"RCCS_DATA": nowhere}}.run(t, strings.Split(c.line, " ")...).refused(t, exitUsage, c.want...)
		})
	}
}

// Bad usage is found before anything is made.
func TestBadUsageMakesNoKeys(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"creds device alice", "creds device -", "creds device a/b --expires 0", "creds device a/b --type \x01",
		"creds service a/b", "creds service a --expires -1h", "serve --log-level loud",
		"send alice 1", "send a/b 1 --priority urgent", "connect alice", "connect a/b --type A",
	} {
		data := filepath.Join(t.TempDir(), "data")
		console{}.run(t, append(strings.Split(line, " "), "--data", data)...).refused(t, exitUsage)
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: made %s", line, data)
		}
	}
}

func TestFailuresAreNotBadUsage(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	console{}.succeed(t, "creds", "service", "a", "--data", data)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	console{}.succeed(t, "creds", "service", "a", "--data", open)
	if err := os.Chmod(filepath.Join(open, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(t.TempDir(), "mine.creds")
	if err := os.WriteFile(mine, []byte(console{}.succeed(t, "creds", "device", "a/b", "--data", data).out), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := "nats://127.0.0.1:1"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"status", "--data", data, "--server-ca", file + ".pem"}, []string{"--server-ca", file + ".pem"}},
		{[]string{"bench", "latency", "--save", data}, []string{"--save", data}},
		{[]string{"bench", "latency", "--save", filepath.Join(file, "x.json")}, []string{"--save", file}},
		{[]string{"bench", "latency", "--program", file}, []string{"--program", file}},
		{[]string{"creds", "device", "a/b", "--data", file}, []string{file}},
		{[]string{"creds", "service", "a", "--data", file}, []string{file}},
		{[]string{"creds", "device", "a/b", "--data", open}, []string{"chmod o-rwx"}},
		{[]string{"serve", "--data", file}, []string{file}},
		{[]string{"serve", "--data", data, "--config", file + ".conf"}, []string{file + ".conf"}},
		{[]string{"send", "a/b", "1", "--data", data, "--server", nowhere}, []string{nowhere, "rccs serve", "--server)"}},
		{[]string{"send", "a/b", "1", "--creds", file}, []string{file, "--creds"}},
		{[]string{"send", "a/b", "1", "--creds", file + ".creds"}, []string{file + ".creds", "--creds"}},
		{[]string{"connect", "a/b", "--data", data, "--url", "ws://127.0.0.1:1/v1/ws"}, []string{"ws://127.0.0.1:1/v1/ws", "rccs serve", "--url)"}},
		{[]string{"connect", "a/b", "--creds", file}, []string{file}},
		{[]string{"connect", "a/b", "--data", data, "--ca", file}, []string{"--ca: " + file, "no certificate"}},
		{[]string{"enroll", "--code", "AAAA-BBBB", "--out", file + ".out", "--ca", file}, []string{"--ca: " + file, "no certificate"}},
		{[]string{"enroll", "renew", "--creds", mine, "--ca", file + ".pem"}, []string{"--ca: open " + file + ".pem"}},
		{[]string{"status", "--data", data, "--tenant", "nosuch"}, []string{"'rccs tenants ls --data " + data + "'", "'rccs tenants add nosuch --data " + data + "'"}},
	} {
		t.Run(strings.Join(c.args[:2], " "), func(t *testing.T) {
			t.Parallel()
			console{}.run(t, c.args...).refused(t, exitFailed, c.want...)
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	for _, cmd := range tree() {
		path := strings.Fields(cmd.CommandPath())[1:]
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			t.Parallel()
			shown := console{}.succeed(t, append(path, "--help")...)
			if again := (console{}).succeed(t, append([]string{"help"}, path...)...); again.out != shown.out || again.err != "" {
				t.Errorf("help says another thing than --help: %q", again.out)
			}
			if !strings.Contains(shown.out, "Usage:") || shown.err != "" {
				t.Errorf("shown: %q and %q", shown.out, shown.err)
			}
			for _, sub := range cmd.Commands() {
				if sub.IsAvailableCommand() && !strings.Contains(shown.out, "\n  "+sub.Name()+" ") {
					t.Errorf("does not list %s", sub.Name())
				}
			}
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if !f.Hidden && (f.Usage == "" || !strings.Contains(shown.out, "--"+f.Name)) {
					t.Errorf("does not explain --%s", f.Name)
				}
			})
		})
	}
}

// Help is read on a terminal of 80 columns: nothing in it wraps.
func TestHelpFits80Columns(t *testing.T) {
	t.Parallel()
	for _, cmd := range tree() {
		if cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
			continue // cobra's words
		}
		text := cmd.Long + "\n" + cmd.UsageString()
		if strings.Contains(text, "[=") {
			t.Errorf("%s: a switch shows values that nobody gives it", cmd.CommandPath())
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > 80 {
				t.Errorf("%s: %q", cmd.CommandPath(), line)
			}
		}
	}
}

// Each command of ours shows by examples how it is used, and they are right:
// its name and its flags exist.
func TestExamplesAreRight(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, cmd := range tree() {
		if cmd.HasSubCommands() || cmd.Name() == "help" || cmd.Parent().Name() == "completion" {
			continue
		}
		seen++
		own := 0
		for line := range strings.Lines(cmd.Example) {
			_, line, ok := strings.Cut(line, cmd.CommandPath())
			if !ok {
				continue // a step before or after
			}
			own++
			line, _, _ = strings.Cut(line, "#")
			for word := range strings.FieldsSeq(line) {
				name, isFlag := strings.CutPrefix(word, "--")
				if isFlag && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: an example has the flag --%s, which does not exist", cmd.CommandPath(), name)
				}
			}
		}
		if own == 0 {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
	if seen < 6 {
		t.Errorf("only %d commands", seen)
	}
}

// What a command answers can be had as JSON. Those that are left out run until
// they are stopped, or print a file that others read: a credential, a script.
func TestEveryAnswerCanBeHadAsJSON(t *testing.T) {
	t.Parallel()
	without := []string{
		"rccs serve", "rccs edge", "rccs coordinator", "rccs cluster", "rccs dev", "rccs help", "rccs reference", "rccs completion", "rccs creds",
		"rccs healthcheck", // a status and one word, for a container
	}
	for _, cmd := range tree() {
		path := cmd.CommandPath()
		if !cmd.Runnable() || cmd.HasSubCommands() && cmd.Name() != "enroll" || slices.ContainsFunc(without, func(w string) bool { return strings.HasPrefix(path+" ", w+" ") }) {
			continue
		}
		if cmd.Flag("json") == nil {
			t.Errorf("%s has no --json", path)
		}
	}
}

func TestHelpWithoutArguments(t *testing.T) {
	t.Parallel()
	got := console{}.succeed(t)
	for _, name := range []string{"serve", "creds", "send", "connect", "version", "completion", "RCCS_NATS_LISTEN"} {
		if !strings.Contains(got.out, name) {
			t.Errorf("says nothing of %s", name)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := console{}.succeed(t, "version")
	if flag := (console{}).succeed(t, "--version"); flag != got {
		t.Errorf("--version printed %q, and version %q", flag.out, got.out)
	}
	var v struct{ Version, NATSServer, Go, Platform string }
	if err := json.Unmarshal([]byte(console{}.succeed(t, "version", "--json").out), &v); err != nil || v.Version != version ||
		!strings.HasPrefix(v.NATSServer, "v2.") || !strings.HasPrefix(v.Go, "go1.") || !strings.Contains(v.Platform, "/") {
		t.Errorf("version --json says %+v, %v", v, err)
	}
	if !strings.HasPrefix(got.out, "rccs "+version+" (nats-server v2.") || !strings.Contains(got.out, ", go1.") || strings.Count(got.out, "\n") != 1 || got.err != "" {
		t.Errorf("printed %q and %q", got.out, got.err)
	}
}

// Every flag of every command has its variable; a bad value names it.
func TestEveryFlagHasItsVariable(t *testing.T) {
	t.Parallel()
	flags := 0
	for _, cmd := range tree() {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Name == "version" {
				return
			}
			flags++
			value := map[string]string{"bool": "true", "int": "7", "int64": "7", "uint": "7", "uint64": "7", "number": "7000", "duration": "2h", "string": "high"}[f.Value.Type()]
			if own := map[string]string{"log-level": "debug", "log-format": "json", "device-share": "7", "user-share": "7", "sort": "oldest", "window": "7", "servers": "4", "edges": "7", "since": "1h0m0s", "action": "revoke", "kinds": "inbox", "allow-origin": "https://a.example", "trusted-proxy": "10.0.0.0/8", "otlp-endpoint": "http://a:1", "otlp-protocol": "http", "trace-share": "0.5", "listen": "[::1]:0", "nats-listen": ":80", "admin-listen": "localhost:1", "api-listen": "localhost:2", "advertise": "wss://edge.example", "shards": "7"}[f.Name]; own != "" {
				value = own
			}
			if _, list := f.Value.(*shardList); list { // a number is refused: other commands take it for how many there are
				value = "2-7"
			}
			name := "RCCS_" + strings.ReplaceAll(strings.ToUpper(f.Name), "-", "_")
			env := console{vars: map[string]string{name: value}}.environment(nil, nil, nil)
			f.Changed = false // the console of tests gives --stop-within to every command
			if err := env.bind(cmd.Flags()); err != nil || f.Value.String() != value && f.Value.String() != value+"0m0s" {
				t.Errorf("%s --%s: %s=%s gives %q, %v", cmd.CommandPath(), f.Name, name, value, f.Value, err)
			}
		})
	}
	if flags < 20 {
		t.Errorf("only %d flags", flags)
	}
	for name, line := range map[string]string{
		"RCCS_BEARER":    "creds device a/b",
		"RCCS_EXPIRES":   "creds service a",
		"RCCS_COUNT":     "connect a/b",
		"RCCS_TIMEOUT":   "connect a/b",
		"RCCS_JSON":      "connect a/b",
		"RCCS_PRIORITY":  "send a/b 1",
		"RCCS_LOG_LEVEL": "serve",
	} {
		vars := map[string]string{"RCCS_DATA": filepath.Join(t.TempDir(), "data"), name: "perhaps"}
		console{vars: vars}.run(t, strings.Split(line, " ")...).refused(t, exitUsage, name+`="perhaps"`)
	}
}

func TestFlagWinsOverItsVariable(t *testing.T) {
	t.Parallel()
	byFlag, byVariable := filepath.Join(t.TempDir(), "flag"), filepath.Join(t.TempDir(), "variable")
	c := console{vars: map[string]string{"RCCS_DATA": byVariable, "RCCS_EXPIRES": "nonsense", "RCCS_NOSUCH": "x"}}
	c.succeed(t, "creds", "service", "a", "--data", byFlag, "--expires", "1h", "--init")
	if _, err := os.Stat(byVariable); err == nil {
		t.Error("the variable was used although the flag was given")
	}
	c.vars["RCCS_EXPIRES"] = "1h"
	c.succeed(t, "creds", "service", "a", "--init")
	if _, err := os.Stat(filepath.Join(byVariable, "keys")); err != nil {
		t.Errorf("the variable was not used: %v", err)
	}
}

// A variable of a flag that the command does not have is none of its business.
func TestVariablesOfOtherCommandsAreIgnored(t *testing.T) {
	t.Parallel()
	console{vars: map[string]string{"RCCS_BEARER": "nonsense", "RCCS_HELP": "nonsense"}}.succeed(t, "version")
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := console{}.succeed(t, "completion", shell)
		if len(got.out) < 500 || !strings.Contains(got.out, "rccs") || got.err != "" {
			t.Errorf("%s: %d bytes and %q", shell, len(got.out), got.err)
		}
	}
}

func TestShellsAreToldWhatFollows(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"send a/b 1 --priority ":  "low normal high critical :36",
		"send a/b 1 --priority c": "low normal high critical :36",
		"serve --log-level ":      "debug info warn error :36",
		"send a/b 1 --type ": "notification user_message user_response task_start task_pause task_resume task_cancel task_status " +
			"file_upload file_download file_sync file_delete device_handoff :36",
		"send a/b 1 --id ":           ":36", // any text, so no names of files
		"creds device a/b --type ":   "mobile desktop extension browser :36",
		"connect a/b --device-type ": "mobile desktop extension browser :36",
		"tail --kinds ":              "inbox up signal event cursor :6",
		"tail --kinds inbox,":        "inbox,up inbox,signal inbox,event inbox,cursor :6",
		"audit --action re":          "revoke unrevoke replay read purge forget drain backup enroll request tenant :36",
		"revoke undo ":               "device user service all :4",
		"serve --tls-cert ":          ":0", // a file
		"restore ":                   "tar :8",
		"backup verify ":             "tar :8",
		"bench compare ":             "json :8",
		"send a/b 1 --creds ":        "creds :8",
		"serve --config ":            "conf :8",
		"serve --data ":              ":16", // directories
		"creds device --data ":       ":16",
		"creds device ":              ":4",
		"creds ":                     "device part service system :4",
		"completion ":                "bash fish powershell zsh :4",
		"creds device a/b --b":       "--bearer :4",
		"connect a/b --count 1 ":     ":4",
		"inbox ls --sort ":           "name stored unacknowledged oldest :36",
		"inbox purge a/b --lane ":    "low normal high critical :36",
	} {
		got := console{}.succeed(t, append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
		if words := strings.Join(strings.Fields(got.out), " "); words != want {
			t.Errorf("%q: %q, want %q", line, words, want)
		}
	}
}

// lost is standard output that cannot be written.
type lost struct{}

func (lost) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestOutputThatIsLostIsAFailure(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for _, line := range []string{"version", "creds device a/b", "creds device a/b --bearer", "creds device - --bearer", "creds service a"} {
		args := strings.Split(line, " ")
		if line != "version" {
			args = append(args, "--data", data)
		}
		var errs bytes.Buffer
		env := console{}.environment(strings.NewReader("a/b\n"), lost{}, &errs)
		if status := env.run(t.Context(), args); status != exitFailed || !strings.Contains(errs.String(), fs.ErrClosed.Error()) {
			t.Errorf("%s: status %d, %s", line, status, errs.String())
		}
	}
}

func TestCommandNamesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	var names []string
	for _, cmd := range tree() {
		if cmd.IsAvailableCommand() && !slices.ContainsFunc([]*cobra.Command{cmd, cmd.Parent()}, func(c *cobra.Command) bool {
			return c == nil || c.Name() == "completion" || c.Name() == "help"
		}) {
			names = append(names, cmd.CommandPath())
		}
	}
	slices.Sort(names)
	for _, want := range []string{
		"rccs connect", "rccs creds", "rccs creds device", "rccs creds service", "rccs send", "rccs serve", "rccs version",
		"rccs missed", "rccs replay", "rccs inbox ls", "rccs inbox show", "rccs inbox purge", "rccs devices ls", "rccs devices show",
		"rccs devices forget", "rccs devices revoke", "rccs edges ls", "rccs tail", "rccs trace", "rccs status", "rccs doctor",
		"rccs bench latency", "rccs bench throughput", "rccs bench fanout", "rccs bench storm", "rccs bench idle", "rccs bench slow", "rccs bench compare",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no %q in %q", want, names)
		}
	}
	for path, flags := range map[string][]string{
		"rccs serve":         {"data", "listen", "nats-listen", "admin-listen", "config"},
		"rccs creds device":  {"data", "type", "bearer", "expires"},
		"rccs creds service": {"data"},
		"rccs send":          {"data", "server", "creds"},
		"rccs connect":       {"data", "creds"},
		"rccs missed":        {"data", "server", "creds", "context", "json"},
		"rccs replay":        {"data", "server", "creds", "since", "from-seq", "id", "missed", "to", "dry-run"},
	} {
		i := slices.IndexFunc(tree(), func(cmd *cobra.Command) bool { return cmd.CommandPath() == path })
		for _, flag := range flags {
			if tree()[i].Flags().Lookup(flag) == nil {
				t.Errorf("%s has no --%s", path, flag)
			}
		}
	}
}

// A short flag that works for one command works for all that have its flag.
func TestShortFlagsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	for _, cmd := range tree() {
		for flag, short := range map[string]string{"data": "d", "server": "s", "json": "j", "url": "u"} {
			if f := cmd.Flags().Lookup(flag); f != nil && f.Shorthand != short {
				t.Errorf("%s: the short form of --%s is %q, want %q", cmd.CommandPath(), flag, f.Shorthand, short)
			}
		}
	}
}

// A script sees that what it reads of the use is not so.
func TestTenantsAreListedWithoutAServerAndThatIsAFailure(t *testing.T) {
	t.Parallel()
	c := console{vars: map[string]string{"RCCS_DATA": t.TempDir()}}
	c.succeed(t, "creds", "service", "a") // makes the keys
	for _, form := range []string{"--json=false", "--json"} {
		got := c.run(t, "tenants", "ls", form, "--server", "nats://127.0.0.1:1")
		if got.status != exitFailed || !strings.Contains(got.out, "default") || !strings.Contains(got.err, "connect to nats://127.0.0.1:1: ") {
			t.Errorf("%s: status %d, printed %q, said %q", form, got.status, got.out, got.err)
		}
	}
}

// A completion looks where the command would: the variables count.
func TestTenantsAreCompletedFromTheDirectoryOfTheEnvironment(t *testing.T) {
	t.Parallel()
	c := console{vars: map[string]string{"RCCS_DATA": t.TempDir()}}
	c.succeed(t, "creds", "service", "a") // makes the keys
	c.succeed(t, "tenants", "add", "acme", "--server", "nats://127.0.0.1:1")
	for _, line := range []string{"tenants rm a", "creds device --tenant a"} {
		if got := c.succeed(t, append([]string{"__completeNoDesc"}, strings.Fields(line)...)...); !strings.Contains(got.out, "acme\n") {
			t.Errorf("%s: offered %q", line, got.out)
		}
	}
}
