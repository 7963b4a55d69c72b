package e2e_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// Each quickstart works when it is pasted: its blocks are run as those of the
// README's tour are. The pages have the default addresses, which are replaced
// by free ones.
func TestQuickstarts(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, root string){
		"quickstart-go.md":   nil,
		"quickstart-http.md": func(t *testing.T, _ string) { need.Program(t, "curl") },
		"quickstart-nats.md": nil,
		"quickstart-node.md": linkModules,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := os.ReadFile("../docs/" + name)
			if err != nil {
				t.Fatal(err)
			}
			root, env := checkout(t), tourEnvironment(t)
			if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(program, filepath.Join(root, "bin", "rccs")); err != nil {
				t.Fatal(err)
			}
			if prepare != nil {
				prepare(t, root)
			}
			blocks := parseTour(t, string(page))
			if len(blocks) < 4 {
				t.Fatalf("%s has %d blocks", name, len(blocks))
			}
			moved := moves(env)
			known := map[string]*tourBlock{}
			for _, b := range blocks {
				b.script = moved.Replace(b.script)
				known[b.name] = b
				b.run(t, root, env)
				for _, d := range b.demands {
					from := b
					if d.of != "" {
						from = known[d.of]
					}
					d.check(t, b, from)
				}
			}
		})
	}
}

// moves replaces the default addresses by those of the environment. The tour
// runs make; elsewhere the program that the suite has built is enough, and the
// modules that are linked.
func moves(env []string) *strings.Replacer {
	return moveAddresses(env, "make run", "./bin/rccs serve --data ./data", "npm ci", "npm --version")
}

// moveAddresses replaces the default addresses, and the pairs.
func moveAddresses(env []string, pairs ...string) *strings.Replacer {
	at := make(map[string]string)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		at[name] = value
	}
	defaults := map[string]string{
		"127.0.0.1:8080": at["RCCS_LISTEN"], "127.0.0.1:8081": at["RCCS_ADMIN_LISTEN"], "127.0.0.1:4222": at["RCCS_NATS_LISTEN"],
	}
	for _, from := range slices.Sorted(maps.Keys(defaults)) {
		pairs = append(pairs, from, defaults[from])
	}
	// A reader's machine connects sooner than one that runs all tests.
	pairs = append(pairs, "--timeout 10s", "--timeout "+patience.String(), "--timeout 30s", "--timeout "+patience.String())
	return strings.NewReplacer(pairs...)
}

// linkModules gives a checkout what `make js-install` installs.
func linkModules(t *testing.T, root string) {
	t.Helper()
	need.Program(t, "npm")
	modules, err := filepath.Abs("../js/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		need.Missing(t, "js/node_modules is not installed: make js-install")
	}
	if err := exec.CommandContext(t.Context(), "ln", "-s", modules, filepath.Join(root, "js", "node_modules")).Run(); err != nil {
		t.Fatal(err)
	}
}
