package client_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A program on a device imports the SDK: its module must not need what only the
// server does.
func TestAProgramWithTheSDKNeedsNoneOfTheServersModules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module example.com/device\n\ngo 1.26.0\n\nrequire github.com/rccs-io/rccs v0.0.0\n\n" +
			"replace github.com/rccs-io/rccs => " + root + "\n",
		"go.sum": string(sums), // so that nothing has to be fetched
		"main.go": `package main

import (
	"context"

	"github.com/rccs-io/rccs/client"
)

func main() {
	_, _ = client.Dial(context.Background(), "wss://edge.example.com", &client.Options{Credentials: client.CredentialsFile("phone.creds")})
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("mod", "tidy")
	// What is downloaded is what go.sum has a sum of, beside those of go.mod files.
	text, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	var downloaded []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); !strings.HasSuffix(fields[1], "/go.mod") {
			downloaded = append(downloaded, fields[0])
		}
	}
	t.Logf("go.mod after go mod tidy needs %s", strings.Join(downloaded, ", "))
	wanted := []string{
		"github.com/gorilla/websocket", "github.com/nats-io/jwt/v2", "github.com/nats-io/nkeys", "golang.org/x/crypto", "golang.org/x/sys",
	}
	// go mod tidy also reads the tests of the packages that are imported.
	ofTests := []string{
		"github.com/santhosh-tekuri/jsonschema/v6", "go.uber.org/goleak", "go.yaml.in/yaml/v3", "golang.org/x/text", "pgregory.net/rapid",
	}
	for _, module := range downloaded {
		if !slices.Contains(wanted, module) && !slices.Contains(ofTests, module) {
			t.Errorf("a program with the SDK downloads %s", module)
		}
	}
	for line := range strings.Lines(run("mod", "edit", "-print")) {
		module, version, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "require ")), " v")
		if ok && version != "" && module != "github.com/rccs-io/rccs" && !slices.Contains(wanted, module) {
			t.Errorf("the go.mod of a program with the SDK requires %s", module)
		}
	}
	// And nothing else is built.
	for line := range strings.Lines(run("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")) {
		module := strings.TrimSpace(line)
		if module != "" && module != "example.com/device" && module != "github.com/rccs-io/rccs" && !slices.Contains(wanted, module) {
			t.Errorf("a program with the SDK is built with %s", module)
		}
	}
}
