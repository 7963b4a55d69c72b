package api_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

// document is what of the OpenAPI document the tests look at.
type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Parameters  []struct {
			Name, In string
			Schema   struct{ Type any }
		}
		RequestBody *struct{ Required bool }
		Responses   map[string]any
	}
}

func (p *place) document() (d document, raw []byte) {
	p.t.Helper()
	got := p.get("/v1/openapi.json")
	if got.status != http.StatusOK {
		p.t.Fatalf("%d %s", got.status, got.body)
	}
	got.into(p.t, &d)
	return d, got.body
}

var inBraces = regexp.MustCompile(`\{[a-z]+\}`)

// Every operation of the document is answered by a handler, and every method
// that a path has is in the document.
func TestDocumentAndHandlersAgree(t *testing.T) {
	t.Parallel()
	p := serve(t, true)
	d, _ := p.document()
	if !strings.HasPrefix(d.OpenAPI, "3.1") || len(d.Paths) < 20 {
		t.Fatalf("version %q with %d paths", d.OpenAPI, len(d.Paths))
	}
	for path, operations := range d.Paths {
		concrete := inBraces.ReplaceAllString(path, "x")
		got := p.do("PATCH", concrete, "", p.operator())
		if got.status != http.StatusMethodNotAllowed || got.code() != "METHOD_NOT_ALLOWED" {
			t.Errorf("%s is not served: %d %s", path, got.status, got.body)
			continue
		}
		documented := make([]string, 0, len(operations))
		if _, ok := operations["get"]; ok {
			documented = append(documented, http.MethodHead) // goes without saying
		}
		for method, op := range operations {
			documented = append(documented, strings.ToUpper(method))
			for _, name := range inBraces.FindAllString(path, -1) {
				if !slices.ContainsFunc(op.Parameters, func(in struct {
					Name, In string
					Schema   struct{ Type any }
				},
				) bool {
					return in.In == "path" && "{"+in.Name+"}" == name
				}) {
					t.Errorf("%s %s: %s is not described", method, path, name)
				}
			}
			if op.OperationID == "" || len(op.Responses) < 2 {
				t.Errorf("%s %s: id %q, %d responses", method, path, op.OperationID, len(op.Responses))
			}
		}
		slices.Sort(documented)
		if allow := got.header.Get("Allow"); allow != strings.Join(documented, ", ") {
			t.Errorf("%s: handlers for %s, documented %v", path, allow, documented)
		}
	}
	// The rows of the contract are all there.
	for _, row := range rows {
		if d.Paths[row.path] == nil {
			t.Errorf("%s is missing", row.path)
		} else if _, ok := d.Paths[row.path][strings.ToLower(row.method)]; !ok {
			t.Errorf("%s %s is missing", row.method, row.path)
		}
	}
}

// TestDocumentPassesALinter runs Redocly's linter, if it is installed in
// internal/api/testdata or on the path.
func TestDocumentPassesALinter(t *testing.T) {
	t.Parallel()
	linter, err := exec.LookPath("redocly")
	if err != nil {
		if linter, err = filepath.Abs(filepath.Join("testdata", "linter", "node_modules", ".bin", "redocly")); err == nil {
			_, err = os.Stat(linter)
		}
	}
	if err != nil {
		need.Missing(t, "Redocly's linter is not installed (npm ci in internal/api/testdata/linter)")
	}
	p := serve(t, false)
	_, raw := p.document()
	file := filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), linter, "lint", "--extends=recommended", "--skip-rule=no-server-example.com", "--format=stylish", file)
	cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
