package deps_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parses are the packages that decode bytes: by the fuzz targets of those that
// come from outside, or why none of them does.
var parses = map[string]struct {
	fuzz []string
	ours string
}{
	"auth":                {fuzz: []string{"FuzzVerify", "FuzzClaims", "FuzzVerifyNonce"}},
	"client":              {fuzz: []string{"FuzzReadFrame", "FuzzOpenSealed", "FuzzSealedContent", "FuzzProvedKey", "FuzzReadJournal"}},
	"cmd/rccs":            {ours: "what the operator's own servers answer, and files that the operator names"},
	"coordinator":         {fuzz: []string{"FuzzDecodeRequest"}},
	"edge":                {ours: "what other parts of RCCS ask; frames are read by wire"},
	"internal/api":        {fuzz: []string{"FuzzUnmarshal"}},
	"internal/audit":      {ours: "records that RCCS has written"},
	"internal/backbone":   {ours: "account JWTs of the installation's own keys"},
	"internal/backup":     {fuzz: []string{"FuzzRead", "FuzzManifest"}},
	"internal/direct":     {ours: "what JetStream answers"},
	"internal/enroll":     {fuzz: []string{"FuzzIssuerAnswers"}},
	"internal/guard":      {fuzz: []string{"FuzzExamine", "FuzzExamineLater"}},
	"internal/inbox":      {fuzz: []string{"FuzzParseCursor", "FuzzParsePubAck"}},
	"internal/headers":    {fuzz: []string{"FuzzRequester"}},
	"internal/load":       {fuzz: []string{"FuzzScan"}},
	"internal/natstest":   {ours: "tests"},
	"internal/damage":     {ours: "what servers and hubs store of damage"},
	"internal/node":       {fuzz: []string{"FuzzParseConnection"}},
	"internal/devicetest": {ours: "tests"},
	"internal/ops":        {ours: "what RCCS has stored where services cannot write, and what servers answer"},
	"internal/proof":      {ours: "the tenant's key"},
	"internal/reader":     {ours: "what JetStream answers"},
	"internal/revoke":     {ours: "what servers answer"},
	"internal/roster":     {ours: "records and sessions that edges have written"},
	"internal/send":       {ours: "tasks that RCCS has written"},
	"internal/snapshot":   {fuzz: []string{"FuzzRewrite"}},
	"internal/storecheck": {fuzz: []string{"FuzzBlock"}},
	"internal/strictjson": {fuzz: []string{"FuzzUnmarshal"}},
	"internal/survey":     {ours: "leases that edges have written"},
	"internal/testfast":   {ours: "what go test prints"},
	"internal/topic":      {ours: "a mark that edges have written"},
	"wire":                {fuzz: []string{"FuzzDecodeFrame", "FuzzAck", "FuzzAccepted", "FuzzPayloads", "FuzzEnrollment", "FuzzDecodePosts"}},
}

// decoders are the functions that make something of bytes, by import path and the
// name of the package there.
var decoders = map[[2]string]*regexp.Regexp{
	{"encoding/json", "json"}:                 regexp.MustCompile(`^(Unmarshal|NewDecoder)$`),
	{"encoding/xml", "xml"}:                   regexp.MustCompile(`^(Unmarshal|NewDecoder)$`),
	{"encoding/gob", "gob"}:                   regexp.MustCompile(`^NewDecoder$`),
	{"github.com/nats-io/jwt/v2", "jwt"}:      regexp.MustCompile(`^(Decode|ParseDecorated)`),
	{"github.com/go-jose/go-jose/v4", "jose"}: regexp.MustCompile(`^Parse`),
}

// source is what is looked for in the repository's Go files.
type source struct {
	decodes map[string]bool     // packages that decode
	fuzz    map[string][]string // fuzz targets, by package
}

func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{map[string]bool{}, map[string][]string{}}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains(elsewhere, d.Name())) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s.read(path.Dir(filepath.ToSlash(rel)), strings.HasSuffix(name, "_test.go"), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) read(pkg string, test bool, file *ast.File) {
	names := map[string]*regexp.Regexp{}
	for from, functions := range decoders {
		switch name := importName(file, from[0]); name {
		case "":
		case path.Base(from[0]): // not renamed
			names[from[1]] = functions
		default:
			names[name] = functions
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if test && n.Recv == nil && strings.HasPrefix(n.Name.Name, "Fuzz") {
				s.fuzz[pkg] = append(s.fuzz[pkg], n.Name.Name)
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && !test && names[x.Name] != nil && names[x.Name].MatchString(n.Sel.Name) {
				s.decodes[pkg] = true
			}
		}
		return true
	})
}

// Whatever decodes bytes has a fuzz target, or a reason to have none.
func TestEveryParserOfOutsideBytesHasAFuzzTarget(t *testing.T) {
	t.Parallel()
	s := readSource(t)
	for _, pkg := range slices.Sorted(maps.Keys(s.decodes)) {
		known, ok := parses[pkg]
		if !ok {
			t.Errorf("package %s decodes bytes, and is not in the list", pkg)
		}
		for _, name := range known.fuzz {
			if !slices.Contains(s.fuzz[pkg], name) {
				t.Errorf("package %s has no fuzz target %s", pkg, name)
			}
		}
		if ok && (len(known.fuzz) == 0) == (known.ours == "") {
			t.Errorf("package %s is to have either fuzz targets or a reason", pkg)
		}
	}
	for pkg := range parses {
		if !s.decodes[pkg] {
			t.Errorf("package %s is in the list, and decodes nothing", pkg)
		}
	}
}

// The page about security names every fuzz target, and none that does not exist.
func TestThePageAboutSecurityNamesEveryFuzzTarget(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Hostile input\n")
	named := regexp.MustCompile(`\bFuzz[A-Z][A-Za-z0-9]*`).FindAllString(section, -1)
	var all []string
	for _, names := range readSource(t).fuzz {
		all = append(all, names...)
	}
	for _, name := range all {
		if !slices.Contains(named, name) {
			t.Errorf("%s is not named", name)
		}
	}
	for _, name := range named {
		if !slices.Contains(all, name) {
			t.Errorf("there is no %s", name)
		}
	}
}
