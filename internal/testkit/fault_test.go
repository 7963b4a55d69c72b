package testkit_test

import (
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// report is one of the race detector, of two functions.
func report(one, other string) string {
	const bar = "==================\n"
	return bar + "WARNING: DATA RACE\nWrite at 0x00c00014e530 by goroutine 616:\n" + one + "\n      client.go:3395 +0x2d9\n" +
		"\nPrevious read at 0x00c00014e530 by goroutine 544:\n" + other + "\n      client.go:3394 +0x29e\n" +
		"\nGoroutine 616 (running) created at:\n  main.main()\n      main.go:1 +0x1\n" + bar
}

func TestFaultIsAnyRaceButTheKnownOneOfNATS(t *testing.T) {
	t.Parallel()
	const (
		known  = "  github.com/nats-io/nats-server/v2/server.(*client).addShadowSub()"
		done   = "  github.com/nats-io/nats-server/v2/server.(*jetStream).monitorStream()"
		copied = "  github.com/nats-io/nats-server/v2/server.(*streamAssignment).clone()"
		ours   = "  github.com/rccs-io/rccs/internal/node.(*Node).Start()"
		line   = "\n      /mod/client.go:3395 +0x2d9\n"
		server = "  github.com/nats-io/nats-server/v2/server."
		used   = server + "(*subjectTransform).TransformTokenizedSubject()" + line + server + "(*subjectTransform).TransformSubject()" + line
		timer  = server + "(*fileStore).setSyncTimer()" + line
		fired  = timer + server + "(*fileStore).syncBlocks()"
		begun  = timer + server + "newFileStoreWithCreatedAndMode()"
		made   = server + "NewSubjectTransformStrict()" + line + server + "(*subjectTransform).reverse()" + line
	)
	for log, want := range map[string]string{
		"":                                       "",
		`{"level":"INFO","msg":"serves"}` + "\n": "",
		"before\n" + report(known, known) + "after\n":              "",
		report(done, copied) + report(copied, done):                "",
		report(used+known, made+known):                             "",
		report(used+known, "  strings.genSplit()"+line+made+known): "",
		report(used+ours, made+known):                              "WARNING: DATA RACE",
		report(used+known, made+ours):                              "WARNING: DATA RACE",
		report(used+known, ours):                                   "WARNING: DATA RACE",
		report(done, done):                                         "WARNING: DATA RACE",
		report(fired, begun):                                       "",
		report(fired, fired):                                       "WARNING: DATA RACE",
		report(done, known):                                        "WARNING: DATA RACE",
		report(ours+"\n      a.go:1 +0x1\n"+known, known):          "WARNING: DATA RACE", // not where the stack begins
		report(known, known) + report(ours, ours):                  "WARNING: DATA RACE",
		report(ours, known):                                        "WARNING: DATA RACE",
		report(known, ours):                                        "WARNING: DATA RACE",
		report(known, known) + "panic: runtime error\n":            "panic:",
		"fatal error: all goroutines are asleep\npanic: another\n": "fatal error:",
		strings.TrimSuffix(report(known, known), "=\n"):            "WARNING: DATA RACE", // cut: it may be another's
	} {
		if got := testkit.Fault(log); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("of %.300q: %.100q, want %q", log, got, want)
		}
	}
}
