package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/internal/testkit"
)

func TestTheLogsLevelAndFormatAreChosenAndTheLevelChanges(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	var signals chan<- os.Signal
	env := console{}.environment(nil, nil, &text)
	env.verbose = func(to chan<- os.Signal) { signals = to }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := env.logging(ctx, &logFlags{level: "warn", format: formatText})
	log.Info("not told")
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelWarn} {
		signals <- syscall.SIGUSR1
		testkit.Eventually(t, level.String(), func() bool { return log.Enabled(ctx, level) && !log.Enabled(ctx, level-1) })
	}
	log.Warn("told", "n", 1)
	env.logging(ctx, &logFlags{level: "info", format: formatJSON}).Info("timed", "took", 1500*time.Millisecond)
	if !strings.Contains(text.String(), `"took":"1.5s"`) {
		t.Errorf("a duration in JSON: %s", text.String())
	}
	if got := text.String(); strings.Contains(got, "not told") || !strings.Contains(got, "level=WARN msg=told n=1") {
		t.Errorf("logged %q", got)
	}
}

// What a person needs at the start is the last that is printed, and short.
func TestTheStartFitsTenLines(t *testing.T) {
	t.Parallel()
	i := serve(t, "--log-format", "text")
	i.await("^  .* send alice/phone hello")
	said := strings.Split(i.stderr(), "\n")
	said = slices.DeleteFunc(said, func(line string) bool { // of a machine that is too busy, not of the start
		return line == "" || strings.Contains(line, "stream reader restarts") || strings.Contains(line, "msg=nats-server")
	})
	if len(said) > 1 || strings.Contains(strings.Join(said, ""), "created") {
		t.Errorf("logged at the start: %q", said)
	}
	console{}.run(t, "serve", "--log-format", "xml").refused(t, exitUsage, "--log-format", "text", "json")
	console{}.run(t, "edge", "--log-level", "loud").refused(t, exitUsage, "--log-level", "debug")
}

// One id finds all that the log has of a connection, from its registration to its
// end; and one id finds a message at whoever handled it: the edge, the HTTP API,
// the coordinator. The answer that the sender got has the same id.
func TestOneIDFindsAConnectionAndAMessageInTheLog(t *testing.T) {
	t.Parallel()
	i := serve(t, "--log-level", "debug", "--log-format", "json")
	phone := i.device(t, "alice/phone", client.Options{Type: "mobile"})
	desktop := i.device(t, "alice/desktop", client.Options{Type: "desktop"})
	note, err := client.Compose("note", 1, client.To("phone"), client.WithID("by-device"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := desktop.Send(t.Context(), note); err != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	body := strings.NewReader(`{"to":{"user":"alice","device":"phone"},"type":"note","payload":1,"id":"by-http"}`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.admin+"/v1/messages", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if _ = answer.Body.Close(); err != nil || !strings.Contains(string(text), `"by-http"`) {
		t.Errorf("answered %s, %v", text, err)
	}
	if _, err := i.service(t, "billing").RequestMsg(&nats.Msg{
		Subject: "rccs.route.alice.any.desktop", Data: []byte("1"), Header: nats.Header{"Rccs-Id": {"by-service"}},
	}, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	session := phone.Session().ID
	if err := phone.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ what, with string }{
		{"device registered", `"session":"` + string(session) + `"`},
		{"device disconnected", `"session":"` + string(session) + `"`},
		{"message stored", `"id":"by-device"`},
		{"message stored", `"id":"by-http"`},
		{"message routed", `"id":"by-service"`},
	} {
		testkit.Eventually(t, want.what+" with "+want.with, func() bool {
			for line := range strings.Lines(i.stderr()) {
				if strings.Contains(line, `"msg":"`+want.what+`"`) && strings.Contains(line, want.with) {
					return true
				}
			}
			return false
		})
	}
	conn := regexp.MustCompile(`"msg":"device registered","conn":"?(\w+)"?.*` + string(session)).FindStringSubmatch(i.stderr())
	if conn == nil || strings.Count(i.stderr(), `"conn":`+conn[1])+strings.Count(i.stderr(), `"conn":"`+conn[1]+`"`) < 2 {
		t.Errorf("the connection %q is not found by its id:\n%s", conn, i.stderr())
	}
}
