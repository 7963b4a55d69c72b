package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// examples are the fenced blocks of a page that begin with a word, each with
// its words and its commands.
func examples(t *testing.T, page string) (blocks [][2]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```sh run(.*?)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, [2]string{strings.TrimSpace(m[1]), m[2]})
	}
	return blocks
}

// Every example of docs/http.md works, and there is one of every row.
func TestEveryExampleOfTheDocumentationRuns(t *testing.T) {
	t.Parallel()
	curl := need.Program(t, "curl")
	p, closed := serve(t, false), serve(t, true)
	phone := p.connect("alice/phone", `,"type":"mobile"`)
	go serveRequests(phone)
	p.visit("alice/old-phone", "")
	var edges struct{ Items []struct{ ID string } }
	p.get("/v1/edges").into(t, &edges)
	dir := t.TempDir()
	all := strings.Builder{}
	for _, b := range examples(t, "http.md") {
		words, text := b[0], strings.ReplaceAll(b[1], "\\\n", " ")
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line == "" {
				continue
			}
			all.WriteString(line + "\n")
			at := p
			if words == "operator" {
				at = closed
			}
			run := strings.ReplaceAll(line, "http://127.0.0.1:8081", at.base)
			run = strings.ReplaceAll(run, "EDGE", edges.Items[0].ID)
			run = strings.Replace(run, "curl ", curl+" -i ", 1)
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			cmd := exec.CommandContext(ctx, "sh", "-c", run)
			cmd.Dir, cmd.WaitDelay = dir, testkit.Patience
			status, err := firstLine(cmd, words == "stream")
			cancel()
			if err != nil || !strings.HasPrefix(status, "HTTP/1.1 20") {
				known := strings.Contains(line, "reminder-1") || status == "HTTP/1.1 404 Not Found" && strings.Contains(line, "old-phone")
				if !known || err != nil {
					t.Errorf("%s\n%s %v", line, status, err)
				}
			}
		}
	}
	for _, r := range rows {
		pattern := regexp.QuoteMeta(r.path)
		pattern = regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(pattern, `[^/? ']+`)
		found := false
		for line := range strings.Lines(all.String()) {
			method := "GET"
			if strings.Contains(line, " -d ") {
				method = "POST"
			}
			if m := regexp.MustCompile(`-X ([A-Z]+)`).FindStringSubmatch(line); m != nil {
				method = m[1]
			}
			found = found || method == r.method && regexp.MustCompile(`127\.0\.0\.1:8081`+pattern+`([?' ]|$)`).MatchString(strings.TrimSpace(line))
		}
		if !found {
			t.Errorf("%s %s has no example", r.method, r.path)
		}
	}
}

// firstLine is the first line of what a command prints; of a stream no more is
// waited for than an event.
func firstLine(cmd *exec.Cmd, stream bool) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 8<<20)
	status, data := "", false
	for lines.Scan() {
		if status == "" {
			status = lines.Text()
		}
		if data = data || strings.HasPrefix(lines.Text(), "data: "); stream && data {
			_ = cmd.Process.Kill()
			break
		}
	}
	err = cmd.Wait()
	if stream {
		if !data {
			return status, errors.New("no event came")
		}
		return status, nil
	}
	return status, err
}

// serveRequests answers requests, and acknowledges messages, until the connection
// ends.
func serveRequests(d *devicetest.Device) {
	for {
		_, frame, err := d.ReadMessage()
		if err != nil {
			return
		}
		m := decode(frame)
		switch {
		case m["type"] == "request":
			_ = d.WriteMessage(1, fmt.Appendf(nil, `{"type":"response","correlationId":%q,"payload":{"result":{"ok":true}}}`, m["id"]))
		case m["seq"] != nil:
			_ = d.WriteMessage(1, fmt.Appendf(nil, `{"type":"ack","payload":{"seq":%.0f}}`, m["seq"]))
		}
	}
}
