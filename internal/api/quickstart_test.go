package api_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/need"
)

// webSocket has Node 20 know WebSocket, as later ones and pages do.
const webSocket = "--experimental-websocket"

// From login to the first message in a page, as docs/quickstart-web.md shows it.
func TestWebQuickstartRuns(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err == nil {
		err = exec.CommandContext(t.Context(), node, webSocket, "-e", "WebSocket").Run()
	}
	if err != nil {
		need.Missing(t, "Node 20.10 or later is not installed")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "quickstart-web.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, true)
	dir := t.TempDir()
	web := p.service("web", auth.ServiceOptions{MayIssue: true}).Get("Authorization")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("web.token", strings.TrimPrefix(web, "Bearer ")+"\n")
	block := func(name string) string {
		m := regexp.MustCompile("(?ms)^```(?:js|sh) " + name + "\n(.*?)^```$").FindSubmatch(text)
		if m == nil {
			t.Fatalf("there is no block %s", name)
		}
		return string(m[1])
	}
	backend := exec.CommandContext(t.Context(), node, write("backend.mjs", block("backend")))
	backend.Env = append(os.Environ(), "RCCS_API="+p.base, "RCCS_TOKEN_FILE="+token, "PORT=0")
	backend.Stderr = os.Stderr
	out, err := backend.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Process.Kill(); _ = backend.Wait() })
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(first, "listening on %d", &port); err != nil {
		t.Fatalf("the backend says %q", first)
	}
	write("page.mjs", block("page"))
	try := strings.NewReplacer("node backend.mjs &\n", "", "kill %1\n", "",
		"http://127.0.0.1:3000", fmt.Sprintf("http://127.0.0.1:%d", port), "127.0.0.1:8080", p.n.Addr().String()).Replace(block("try"))
	page := exec.CommandContext(t.Context(), "bash", "-ec", try)
	page.Dir = dir
	printed, err := page.CombinedOutput()
	if err != nil || strings.TrimSpace(string(printed)) != "service:web says hello alice" || !strings.Contains(string(text), strings.TrimSpace(string(printed))) {
		t.Errorf("the page printed %q, %v", printed, err)
	}
}
