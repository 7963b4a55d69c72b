package auth_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/natstest"
	"github.com/rccs-io/rccs/subjects"
)

var update = flag.Bool("update", false, "write the generated part of docs/security.md")

// may is what a role may do with a subject: "", "p" to publish, "s" to
// subscribe, "ps" both.
type may struct {
	subject         string
	device, service string
}

// everything is a subject of each kind that an installation has, and what alice's
// phone and a service may do with it. A part of RCCS may do all of it.
func everything(k, other subjects.Key) []may {
	all := []may{
		{subjects.Inbox(k, subjects.Normal), "", "p"},
		{subjects.Inbox(other, subjects.Low), "", "p"},
		{subjects.Inbox(other, subjects.High), "", "p"},
		{subjects.Inbox(other, subjects.Critical), "", "p"},
		{"rccs.inbox.alice.phone.urgent", "", ""}, // no lane, so that its sender is told
		{"rccs.inbx.alice.phone.normal", "", ""},
		{layout.Cursor(k), "", ""},
		{layout.Watermark, "", ""},
		{layout.Fence, "", ""},
		{subjects.Later(k, subjects.Normal, "id"), "", "p"},
		{layout.Due(k, subjects.Normal), "", ""},
		{subjects.Route("alice", subjects.Selector{}), "", "p"},
		{subjects.Route("alice", subjects.Selector{DeviceType: "desktop", Any: true}), "", "p"},
		{layout.Wait("x"), "", ""},
		{layout.Deadline(k), "", ""},
		{subjects.Signal(k), "s", "p"},
		{subjects.Signal(other), "", "p"},
		{subjects.RPC(k, "method"), "", "p"},
		{"rccs.topic.a.b", "", "ps"},
		{"rccs.say.a.b", "", "p"}, // what the one before is mapped to
		{"rccs.heard.a.b", "", ""},
		{"rccs.api.STREAM.PURGE.RCCS_LATER", "", ""},
		{"rccs.deliver._INBOX.a.b", "", ""},
		{"_R_.a.b", "", ""},
		{subjects.Up(k, "note"), "", "s"},
		{subjects.Event(k, subjects.EventOnline), "", "s"},
		{layout.Audit("revoke"), "", ""},
		{layout.Release("edge"), "", ""},
		{layout.Drain("edge"), "", ""},
		{layout.Redirected, "", ""},
		{subjects.CoordinatorEndpoint("status"), "", "p"},
		{layout.PartEndpoint("enroll"), "", ""},
		{subjects.DeviceEndpoint(k, "fetch"), "p", ""},
		{subjects.DeviceEndpoint(other, "fetch"), "", ""},
		{subjects.ReplyPrefix(k) + ".x", "s", ""},
		{subjects.ReplyPrefix(other) + ".x", "", ""},
		{layout.PartReplyPrefix + ".x", "", ""},
		{"_INBOX.abc.def", "", "ps"},
		{layout.DeviceSubject(k), "", ""},
		{layout.SessionSubject(k), "", ""},
		{layout.EdgeSubject("x"), "", ""},
		{"$KV." + layout.BucketTasks + ".x.y", "", ""},
		{"$KV." + layout.BucketAccount + ".x", "", ""},
		{"$KV." + layout.BucketCodes + ".x", "", ""},
		{"$KV." + layout.BucketEnrolled + ".x", "", ""},
		{"$SRV.PING", "", "ps"},
		{"$JS.API.INFO", "", "p"},
		{"$JS.API.ACCOUNT.PURGE.x", "", ""},
		{"$SYS.REQ.CLAIMS.UPDATE", "", ""},
		{"$SYS.ACCOUNT.x.CONNECT", "", ""},
		{"anything.else", "", ""},
		{">", "", ""},
		{"rccs.>", "", ""},
	}
	closed := []string{layout.StreamInbox, layout.StreamCursor, layout.StreamRoute, layout.StreamDeadline, layout.StreamAudit}
	for _, bucket := range []string{
		layout.BucketDevices, layout.BucketSessions, layout.BucketEdges, layout.BucketAccount,
		layout.BucketTasks, layout.BucketCodes, layout.BucketEnrolled,
	} {
		closed = append(closed, "KV_"+bucket)
	}
	for _, stream := range closed {
		for _, api := range []string{
			"STREAM.CREATE", "STREAM.INFO", "STREAM.PURGE", "STREAM.DELETE", "STREAM.UPDATE", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
			"STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN", "CONSUMER.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST", "DIRECT.GET",
		} {
			all = append(all, may{"$JS.API." + api + "." + stream, "", ""})
		}
		for _, api := range []string{"CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.INFO", "CONSUMER.MSG.NEXT", "CONSUMER.DELETE", "DIRECT.GET"} {
			all = append(all, may{"$JS.API." + api + "." + stream + ".x", "", ""})
		}
		all = append(all, may{"$JS.ACK." + stream + ".x.1.1.1.1.0", "", ""})
	}
	for _, stream := range []string{subjects.StreamUp, subjects.StreamEvent, subjects.StreamTopic} {
		for api, service := range map[string]string{
			"STREAM.INFO": "p", "CONSUMER.CREATE": "p", "DIRECT.GET": "p",
			"STREAM.PURGE": "", "STREAM.DELETE": "", "STREAM.UPDATE": "", "STREAM.MSG.DELETE": "", "STREAM.SNAPSHOT": "",
		} {
			all = append(all, may{"$JS.API." + api + "." + stream, "", service})
		}
	}
	return append(all,
		may{"$JS.API.STREAM.INFO." + subjects.StreamLater, "", "p"},
		may{"$JS.API.STREAM.PURGE." + subjects.StreamLater, "", "p"}, // to cancel
		may{"$JS.API.STREAM.DELETE." + subjects.StreamLater, "", ""},
		may{"$JS.API.STREAM.CREATE.MINE", "", ""})
}

// Every subject of every role, tried on a real server.
func TestEveryRoleMayDoWhatTheTableSaysAndNothingElse(t *testing.T) {
	t.Parallel()
	i := install(t)
	me, another := subjects.Address{User: "alice", Device: "my.phone"}, subjects.Address{User: "bob", Device: "phone"}
	all := everything(me.Key(), another.Key())
	device, service := i.device(t, me), i.service(t)
	part := client{i.part}
	does := func(c client, subject string) string {
		got := ""
		if !strings.ContainsAny(subject, ">*") && c.mayPublish(t, subject) {
			got += "p"
		}
		if c.maySubscribe(t, subject) {
			got += "s"
		}
		return got
	}
	for _, m := range all {
		if got := does(device, m.subject); got != m.device {
			t.Errorf("a device: %q on %s, want %q", got, m.subject, m.device)
		}
		if got := does(service, m.subject); got != m.service {
			t.Errorf("a service: %q on %s, want %q", got, m.subject, m.service)
		}
		want := "ps"
		if strings.Contains(m.subject, ">") {
			want = "s" // a pattern, to which nobody publishes
		}
		if got := does(part, m.subject); got != want { // there are no streams yet that it could harm
			t.Errorf("a part: %q on %s, want %q", got, m.subject, want)
		}
	}
	t.Logf("3 roles × %d subjects tried", len(all))
	// Nothing that is stored is left out of the table.
	js, err := jetstream.New(i.part)
	must(t, js, err)
	natstest.Streams(t, i.part)
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		for _, pattern := range info.Config.Subjects {
			if !slices.ContainsFunc(all, func(m may) bool { return covers(pattern, m.subject) }) {
				t.Errorf("%s stores %s, of which the table has nothing", info.Config.Name, pattern)
			}
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
}

// No name that packages subjects and layout make is left out of the table.
func TestTheTableHasEverySubjectThereIs(t *testing.T) {
	t.Parallel()
	all := everything(phone.Key(), subjects.Address{User: "bob", Device: "phone"}.Key())
	starts := func(prefix string) bool {
		return slices.ContainsFunc(all, func(m may) bool { return strings.HasPrefix(m.subject, prefix) })
	}
	asks := func(stream string) bool {
		return slices.ContainsFunc(all, func(m may) bool {
			return strings.HasPrefix(m.subject, "$JS.API.") && strings.HasSuffix(m.subject, "."+stream)
		})
	}
	prefixes, constants := names(t)
	for _, prefix := range prefixes {
		if !starts(prefix) {
			t.Errorf("nothing of %s is tried", prefix)
		}
	}
	for name, value := range constants {
		switch {
		case strings.HasPrefix(name, "Stream") && !asks(value):
			t.Errorf("%s: the stream %s is not asked for", name, value)
		case strings.HasPrefix(name, "Bucket") && (!asks("KV_"+value) || !starts("$KV."+value+".")):
			t.Errorf("%s: the bucket %s is not tried", name, value)
		}
	}
	if len(prefixes) < 15 || len(constants) < 15 {
		t.Errorf("found only %d beginnings of subjects and %d constants", len(prefixes), len(constants))
	}
}

// names are the literal beginnings of subjects in these packages, but for
// those of the permissions themselves, and its string constants.
func names(t *testing.T) (prefixes []string, constants map[string]string) {
	t.Helper()
	var files []string
	for _, dir := range []string{"subjects", "internal/layout"} {
		found, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		must(t, found, err)
		files = append(files, found...)
	}
	constants = map[string]string{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "permissions.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		must(t, file, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				text, _ := strconv.Unquote(n.Value)
				if n.Kind == token.STRING && (strings.HasPrefix(text, "rccs.") || strings.HasPrefix(text, "_")) {
					text, _, _ = strings.Cut(strings.TrimSuffix(text, ">"), "*")
					prefixes = append(prefixes, text)
				}
			case *ast.ValueSpec:
				for i, value := range n.Values {
					if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						constants[n.Names[i].Name], _ = strconv.Unquote(lit.Value)
					}
				}
			}
			return true
		})
	}
	return prefixes, constants
}

// The system account is another: its users see servers, and nothing of what a
// tenant's publish.
func TestTheSystemHearsNothingOfATenant(t *testing.T) {
	t.Parallel()
	i := install(t)
	cred, err := i.keys.IssueSystem("admin")
	admin := i.dial(t, must(t, cred, err), "admin")
	heard, err := admin.SubscribeSync(">")
	must(t, heard, err)
	mine, err := i.part.SubscribeSync("rccs.>")
	must(t, mine, err)
	for _, c := range []client{admin, {i.part}} {
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range everything(phone.Key(), phone.Key()) {
		if strings.HasPrefix(m.subject, "rccs.") && !strings.Contains(m.subject, ">") {
			if err := i.part.Publish(m.subject, []byte("a tenant's")); err != nil {
				t.Fatal(err)
			}
			if err := admin.Publish(m.subject, []byte("the system's")); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := func(c client, sub *nats.Subscription, foreign string) {
		t.Helper()
		if err := c.Publish("rccs.last", nil); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := sub.NextMsg(patience)
			must(t, m, err)
			if m.Subject == "rccs.last" {
				return
			}
			if string(m.Data) == foreign {
				t.Errorf("%s crosses from one account into the other", m.Subject)
			}
		}
	}
	for _, c := range []client{admin, {i.part}} { // all that was published has been taken
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	last(admin, heard, "a tenant's")
	last(client{i.part}, mine, "the system's")
}

// covers reports whether a pattern of NATS covers a literal subject.
func covers(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		switch {
		case token == ">":
			return len(s) > i
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}

const (
	tableBegin = "<!-- permissions: written by `go test ./auth -run PermissionsOfTheDocs -update` -->\n"
	tableEnd   = "<!-- end of permissions -->\n"
)

// The table in docs/security.md is what the code says.
func TestPermissionsOfTheDocsAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "security.md")
	doc, err := os.ReadFile(path)
	must(t, doc, err)
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	_, after, found := strings.Cut(rest, tableEnd)
	if !ok || !found {
		t.Fatal("docs/security.md has no place for the table")
	}
	want := before + tableBegin + permissionTable() + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(doc) {
		t.Errorf("the table is not what the code says: go test ./auth -run PermissionsOfTheDocs -update")
	}
}

func permissionTable() string {
	var b strings.Builder
	for _, role := range []struct {
		name string
		p    layout.Permissions
	}{
		{"A device, USER/DEVICE", layout.ForDevice(subjects.Address{User: "USER", Device: "DEVICE"}.Key())},
		{"A service", layout.ForService()},
		{"A part of RCCS: edge, coordinator, operator", layout.ForPart()},
	} {
		fmt.Fprintf(&b, "\n**%s**\n\n| subject | it |\n| --- | --- |\n", role.name)
		for _, row := range []struct {
			what string
			list []string
		}{{"may publish to", role.p.Publish}, {"may subscribe to", role.p.Subscribe}, {"never hears", role.p.Unheard}} {
			for _, subject := range row.list {
				fmt.Fprintf(&b, "| `%s` | %s |\n", subject, row.what)
			}
		}
	}
	b.WriteString("\n**The account of services**\n\n| its users | in the tenant's account | |\n| --- | --- | --- |\n")
	for _, i := range layout.ServiceImports() {
		how := "publish"
		if i.Heard {
			how = "subscribe"
		}
		there := "the same"
		if i.Subject != i.Local {
			there = "`" + i.Subject + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", i.Local, there, how)
	}
	b.WriteString("\n")
	return b.String()
}

// Every test that the document names exists.
func TestTestsThatTheSecurityPageNamesExist(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	must(t, doc, err)
	have := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			have[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllSubmatch(doc, -1)
	if len(named) < 10 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !have[string(m[1])] {
			t.Errorf("there is no test %s", m[1])
		}
	}
	_, threats, ok := strings.Cut(string(doc), "\n## Threats\n")
	threats, _, ended := strings.Cut(threats, "\n## ")
	if !ok || !ended {
		t.Fatal("the page has no threats")
	}
	for line := range strings.Lines(threats) {
		shown := strings.HasPrefix(line, "| somebody ") || strings.HasPrefix(line, "| ---") || strings.Contains(line, "`Test") || strings.Contains(line, "**open**")
		if strings.HasPrefix(line, "|") && !shown {
			t.Errorf("neither a test nor **open**: %s", line)
		}
	}
}
