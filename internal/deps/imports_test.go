package deps_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module     = "github.com/rccs-io/rccs"
	natsServer = "github.com/nats-io/nats-server/"
)

// may lists, for each package of ours, the packages of ours that it may import
// in what is built, tests aside. "" is the root package.
var may = map[string][]string{
	"":                {},
	"subjects":        {},
	"wire":            {"subjects"},
	"auth":            {"internal/layout", "internal/private", "subjects", "internal/shard"},
	"client":          {"subjects", "wire"},
	"edge":            {"auth", "internal/direct", "internal/envelope", "internal/headers", "internal/inbox", "internal/layout", "internal/leader", "internal/limit", "internal/pool", "internal/proof", "internal/roster", "internal/send", "internal/share", "internal/stops", "internal/topic", "internal/trace", "internal/wsconn", "subjects", "wire", "internal/shard"},
	"internal/wsconn": {}, // one WebSocket; what the messages say is not its business
	"coordinator": {
		"internal/audit", "internal/direct", "internal/enroll", "internal/envelope", "internal/epoch", "internal/guard", "internal/headers", "internal/inbox", "internal/layout", "internal/leader", "internal/ops", "internal/pool", "internal/proof", "internal/reader", "internal/roster", "internal/send", "internal/share", "internal/stops", "internal/storeerr", "internal/strictjson", "internal/timespec", "internal/trace", "subjects", "wire", "internal/shard", "internal/wake",
	},
	"internal/leader":       {},                              // which answers of a stream's servers are believed is decided there alone
	"internal/shard":        {"internal/layout", "subjects"}, // what asks NATS names a shard's streams by it
	"internal/reader":       {"internal/leader", "internal/shard", "internal/wake"},
	"internal/guard":        {"internal/headers", "internal/inbox", "internal/layout", "internal/pool", "internal/reader", "internal/share", "internal/stops", "internal/storeerr", "subjects", "wire", "internal/shard"}, // inbox: how messages are made a batch
	"internal/share":        {"internal/envelope", "internal/inbox", "internal/layout", "internal/proof", "internal/reader", "subjects", "wire", "internal/shard"},
	"internal/headers":      {"internal/layout"},
	"internal/direct":       {"internal/headers", "internal/shard"}, // headers: whether a message has more headers than were read
	"internal/damage":       {},                                     // hubs of inboxes and of topics store one form of record
	"internal/pool":         {},
	"internal/stops":        {},
	"internal/wake":         {},
	"internal/tlsfiles":     {"internal/private"},
	"internal/proof":        {"internal/layout", "internal/leader", "internal/storeerr", "subjects", "internal/shard"}, // whoever writes or reads what is stored needs it
	"internal/admindoor":    {},                                                                                        // the admin address and the API share it
	"internal/timespec":     {"wire"},
	"internal/strictjson":   {}, // the API and the coordinator read bodies alike
	"internal/storeerr":     {}, // what an error of the store means is decided there alone
	"internal/send":         {"internal/envelope", "internal/inbox", "internal/layout", "internal/limit", "internal/proof", "internal/roster", "internal/share", "internal/storeerr", "internal/trace", "subjects", "wire"},
	"internal/inbox":        {"internal/clock", "internal/damage", "internal/direct", "internal/envelope", "internal/epoch", "internal/layout", "internal/leader", "internal/pool", "internal/proof", "internal/reader", "internal/stops", "internal/storeerr", "subjects", "wire", "internal/shard", "internal/wake"},
	"internal/epoch":        {"internal/leader"},                                                         // hubs, backup and restore agree on it
	"internal/envelope":     {"internal/clock", "internal/layout", "internal/proof", "subjects", "wire"}, // a leaf: whoever stores or reads a message needs it
	"internal/topic":        {"internal/damage", "internal/direct", "internal/epoch", "internal/layout", "internal/pool", "internal/reader", "internal/storeerr", "subjects", "internal/shard"},
	"internal/roster":       {"internal/layout", "internal/reader", "internal/storeerr", "subjects", "wire", "internal/shard", "internal/wake"},
	"internal/layout":       {"subjects"}, // names that are not for services
	"internal/clock":        {},           // watches the clock
	"internal/limit":        {},           // edges, what sends and enrolment count by it
	"internal/ops":          {"auth", "internal/audit", "internal/direct", "internal/envelope", "internal/headers", "internal/inbox", "internal/layout", "internal/leader", "internal/proof", "internal/reader", "internal/roster", "internal/storeerr", "subjects", "wire", "internal/shard"},
	"internal/enroll":       {"auth", "internal/layout", "internal/leader", "internal/limit", "internal/storeerr", "subjects", "wire", "internal/shard"},
	"internal/revoke":       {"auth", "internal/audit", "internal/enroll", "internal/layout", "internal/storeerr", "subjects", "internal/shard"},
	"internal/backbone":     {"internal/layout", "internal/leader", "internal/private", "internal/storecheck", "internal/storeerr", "subjects", "internal/shard"},
	"internal/storecheck":   {"internal/private"}, // without a server, which makes fuzzing slow
	"internal/private":      {},                   // one rule for modes of files
	"internal/snapshot":     {"internal/direct", "internal/storeerr"},
	"internal/natstest":     {"internal/backbone", "internal/layout", "internal/localcluster", "internal/testkit", "subjects"},                                                                                                                                                                                // layout: a services' account has the imports of a tenant's
	"internal/backup":       {"auth", "internal/backbone", "internal/direct", "internal/envelope", "internal/epoch", "internal/layout", "internal/leader", "internal/private", "internal/reader", "internal/snapshot", "internal/storeerr", "subjects", "internal/shard", "internal/inbox", "internal/proof"}, // envelope: the id of what waits; inbox: a restore that divides users anew rewrites what names sequences
	"internal/localcluster": {"auth"},
	"internal/audit":        {"internal/layout"},
	"internal/chaos":        {}, // tests only
	"internal/sdktest":      {}, // tests only
	"internal/testkit":      {},
	"internal/nametest":     {"subjects"}, // for tests
	"internal/deps":         {},
	"internal/nodetest":     {"", "auth", "internal/devicetest", "internal/node", "internal/testkit", "subjects"}, // for tests
	"internal/need":         {},                                                                                   // for tests
	"internal/testfast":     {},                                                                                   // runs make test-fast
	"deploy":                {},                                                                                   // tests only, against the built program
	"internal/trace":        {"wire"},                                                                             // what parts say of a message's way, without OpenTelemetry
	"internal/tracing":      {"internal/trace", "subjects", "wire"},
	"internal/survey":       {"internal/direct", "internal/inbox", "internal/layout", "internal/leader", "subjects", "internal/shard", "internal/wake"}, // it reads, and writes nothing
	"internal/devicetest":   {"internal/testkit"},                                                                                                       // for tests
	// The load generator shares nothing with what it measures.
	"internal/load": {},
	"e2e":           {}, // tests only, against the built program
	"internal/node": {
		"", "auth", "coordinator", "edge", "internal/admindoor", "internal/api", "internal/audit", "internal/backbone", "internal/direct", "internal/enroll", "internal/envelope", "internal/epoch", "internal/inbox", "internal/ops", "internal/private", "internal/proof", "internal/reader", "internal/revoke", "internal/roster", "internal/send", "internal/stops", "internal/storecheck", "internal/storeerr", "internal/tlsfiles", "internal/topic", "subjects", "web", "wire", "internal/share", "internal/survey", "internal/trace", "internal/tracing", "internal/layout", "internal/leader", "internal/shard", "internal/wake",
	},
	"internal/api": {
		"auth", "internal/admindoor", "internal/audit", "internal/enroll", "internal/envelope", "internal/ops", "internal/proof", "internal/roster", "internal/send", "internal/strictjson", "internal/timespec", "internal/trace", "subjects", "wire", "internal/limit", "internal/pool", "internal/wake",
	},
	"web": {},
	"cmd/rccs": {
		"", "auth", "client", "edge", "internal/audit", "internal/backbone", "internal/backup", "internal/enroll", "internal/load", "internal/node", "internal/ops", "internal/private", "internal/revoke", "internal/share", "internal/timespec", "internal/tlsfiles", "internal/tracing", "internal/localcluster", "subjects", "wire", "internal/layout", "internal/send", "internal/shard",
	},
}

// A ban forbids an import, or, when deep, that the import is reached by any
// way. why is told to the one who breaks it.
type ban struct {
	who  string // a package of ours, or "*"
	but  []string
	what string // a package, or with a "/" at the end all below it
	deep bool
	why  string
}

var bans = []ban{
	{
		who: "*", but: []string{"internal/backbone", "internal/natstest", "internal/snapshot", "internal/storecheck"}, what: natsServer,
		why: "only these run a server; every part gets a NATS connection and must not know where the server is",
	},
	{
		who: "internal/storecheck", what: natsServer + "v2/server", deep: true,
		why: "it reads the server's set of sequences, package avl, alone: its fuzz targets are slow with a server in them",
	},
	{
		who: "internal/snapshot", what: natsServer + "v2/server", deep: true,
		why: "it needs the format of the server's archives, a package of its own, and not the server",
	},
	{
		who: "client", what: natsServer, deep: true,
		why: "programs on devices import the SDK, and must not carry a server",
	},
	{
		who: "edge", what: natsServer, deep: true,
		why: "an edge runs against any NATS cluster, without a server of its own",
	},
	{
		who: "internal/api", what: natsServer, deep: true,
		why: "it translates between HTTP and the rest, and runs nothing",
	},
	{
		who: "internal/api", what: module + "/edge", deep: true,
		why: "what it does is done by the packages below edges, as for NATS and the commands",
	},
	{
		who: "internal/ops", what: natsServer, deep: true,
		why: "an operator's command works on servers that run elsewhere",
	},
	{
		who: "coordinator", what: natsServer, deep: true,
		why: "a coordinator runs against any NATS cluster, without a server of its own",
	},
	{
		who: "edge", what: module + "/coordinator", deep: true,
		why: "they meet over NATS, so that each is scaled, restarted and replaced alone",
	},
	{
		who: "coordinator", what: module + "/edge", deep: true,
		why: "they meet over NATS, so that each is scaled, restarted and replaced alone",
	},
	{
		who: "*", but: []string{"cmd/rccs", "internal/nodetest"}, what: module + "/internal/node",
		why: "it is the composition root: it knows all, so nothing but the command may know it",
	},
	{
		who: "*", what: module + "/internal/natstest",
		why: "it is for tests",
	},
	{
		who: "*", what: module + "/internal/nodetest",
		why: "it is for tests",
	},
	{
		who: "*", but: []string{"internal/nodetest"}, what: module + "/internal/devicetest",
		why: "it is for tests",
	},
	{
		who: "*", what: module + "/internal/nametest",
		why: "it is for tests",
	},
	{
		who: "*", what: module + "/internal/need",
		why: "it is for tests",
	},
	{
		who: "*", but: []string{"internal/devicetest", "internal/natstest", "internal/nodetest"}, what: module + "/internal/testkit",
		why: "it is for tests",
	},
	{
		who: "internal/testkit", what: "github.com/", deep: true,
		why: "the tests of the SDK use it, and a program with the SDK must not need the modules of the server",
	},
	{
		who: "*", but: []string{"internal/devicetest", "internal/natstest", "internal/need", "internal/nodetest", "internal/testkit"}, what: "testing",
		why: "what is built must not carry the flags of tests",
	},
	{
		who: "*", but: []string{"internal/tracing"}, what: "go.opentelemetry.io/",
		why: "what records messages knows it, and the others know an interface",
	},
	{
		who: "*", what: "log",
		why: "log/slog is the only log, and is passed in",
	},
	{
		who: "internal/envelope", what: module + "/internal/inbox", deep: true,
		why: "what a stored message says is decided once, below whoever stores and reads it",
	},
	{
		who: "internal/envelope", what: module + "/internal/roster", deep: true,
		why: "what a stored message says is decided once, below whoever stores and reads it",
	},
	{
		who: "wire", what: "github.com/", deep: true,
		why: "the codec is a leaf: whoever speaks the protocol can import it, and it does no I/O",
	},
	{
		who: "subjects", what: "github.com/", deep: true,
		why: "names are a leaf: whoever uses RCCS over NATS can import them, and they do no I/O",
	},
}

// listed is what `go list` says of one package.
type listed struct {
	ImportPath string
	Imports    []string // of what is built
	Deps       []string // all that is reached
}

func (p listed) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// ours turns an import path into a package name of ours.
func ours(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// judge returns what is wrong with the imports of the packages.
func judge(packages []listed) []string {
	var faults []string
	for _, p := range packages {
		allowed, known := may[p.name()]
		if !known {
			faults = append(faults, fmt.Sprintf("%s is not in the list of packages: add it, with what it may import", p.ImportPath))
			continue
		}
		for _, path := range p.Imports {
			if name, ok := ours(path); ok && !slices.Contains(allowed, name) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which is not among what it may: %q", p.ImportPath, path, allowed))
			}
		}
		for _, b := range bans {
			faults = append(faults, b.judge(p)...)
		}
	}
	return faults
}

func (b ban) judge(p listed) []string {
	if b.who != "*" && b.who != p.name() || slices.Contains(b.but, p.name()) {
		return nil
	}
	paths, verb := p.Imports, "imports"
	if b.deep {
		paths, verb = p.Deps, "reaches"
	}
	var faults []string
	for _, path := range paths {
		// Our own are on GitHub too; which of them may be imported is in may.
		_, own := ours(path)
		below := strings.HasSuffix(b.what, "/") && strings.HasPrefix(path, b.what) && !own
		if path == b.what || below {
			faults = append(faults, fmt.Sprintf("%s %s %s: %s", p.ImportPath, verb, path, b.why))
		}
	}
	return faults
}

func TestImports(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("go list names %d packages only: it did not see the tree", len(packages))
	}
	for _, fault := range judge(packages) {
		t.Error(fault)
	}
}

// The rules themselves must be able to fail.
func TestImportRulesBite(t *testing.T) {
	t.Parallel()
	own := module + "/"
	for name, c := range map[string]struct {
		p    listed
		want string
	}{
		"unknown package":      {listed{ImportPath: own + "util"}, "add it"},
		"leaf imports":         {listed{ImportPath: own + "subjects", Imports: []string{own + "wire"}}, "not among"},
		"root imports":         {listed{ImportPath: module, Imports: []string{own + "wire"}}, "not among"},
		"second server":        {listed{ImportPath: own + "edge", Imports: []string{natsServer + "v2/server"}}, "only these run a server"},
		"server in the SDK":    {listed{ImportPath: own + "client", Deps: []string{natsServer + "v2/server"}}, "must not carry a server"},
		"edge and coordinator": {listed{ImportPath: own + "edge", Deps: []string{own + "coordinator"}}, "meet over NATS"},
		"node from below":      {listed{ImportPath: own + "auth", Imports: []string{own + "internal/node"}}, "composition root"},
		"test helper built in": {listed{ImportPath: own + "edge", Imports: []string{own + "internal/natstest"}}, "it is for tests"},
		"envelope over inbox":  {listed{ImportPath: own + "internal/envelope", Deps: []string{own + "internal/inbox"}}, "decided once"},
		"log":                  {listed{ImportPath: own + "auth", Imports: []string{"log"}}, "log/slog"},
		"codec with I/O":       {listed{ImportPath: own + "wire", Deps: []string{"github.com/nats-io/nats.go"}}, "codec is a leaf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := strings.Join(judge([]listed{c.p}), "\n")
			if !strings.Contains(faults, c.want) {
				t.Errorf("faults %q, want one with %q", faults, c.want)
			}
		})
	}
	good := listed{ImportPath: own + "edge", Imports: []string{"log/slog", own + "wire"}, Deps: []string{"log", own + "wire"}}
	if faults := judge([]listed{good}); len(faults) > 0 {
		t.Errorf("faults where there are none: %q", faults)
	}
}
