package testkit

import (
	"regexp"
	"strings"
)

// Fault is the first thing in a program's log that no log may hold, with what
// follows it: a panic, a fatal error of the runtime, or a data race. It is empty
// where there is none. A race that nats-server has with itself does not count:
// see [known].
func Fault(log string) string {
	log = races.ReplaceAllStringFunc(log, func(report string) string {
		if upstream(report) {
			return ""
		}
		return report
	})
	at := -1
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if i := strings.Index(log, sign); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return ""
	}
	return log[at:min(len(log), at+8000)]
}

// races are the reports of the race detector. Other lines of the log may stand
// between theirs.
var races = regexp.MustCompile(`(?s)={18}\nWARNING: DATA RACE\n.*?\n={18}\n`)

// upstream tells that a report is of a race that is known in nats-server 2.15.3, by
// the functions at both of its ends.
func upstream(report string) bool {
	ends := strings.Split(strings.TrimSpace(report), "\n\n")
	if len(ends) < 2 {
		return false
	}
	for _, r := range known {
		if r.one.MatchString(ends[0]) && r.other.MatchString(ends[1]) {
			return true
		}
	}
	return false
}

// known are the races of nats-server: what the stack at each end holds.
var known = []struct{ one, other *regexp.Regexp }{
	// The first two subscriptions at one moment through one stream import that renames
	// each make the reversed mapping of the import. Both make the same one. The second
	// may use what the first has made.
	{at("(*client).addShadowSub"), at("(*client).addShadowSub")},
	{
		stack(":\n", "(*subjectTransform).TransformTokenizedSubject", "(*subjectTransform).TransformSubject", "(*client).addShadowSub"),
		stack("\n", "(*subjectTransform).reverse", "(*client).addShadowSub"),
	},
	// The leader of a stream that was just restored into a cluster forgets the restore,
	// while the meta leader copies the stream's assignment for a change of its
	// configuration. Of the copy it takes the group only.
	{at("(*jetStream).monitorStream"), at("(*streamAssignment).clone")},
	{at("(*streamAssignment).clone"), at("(*jetStream).monitorStream")},
	// A new store of a stream notes its timer without its lock. On a machine that stalls
	// the timer fires before anybody has taken the lock, and is set anew.
	{
		stack(":\n", "(*fileStore).setSyncTimer", "(*fileStore).syncBlocks"),
		stack(":\n", "(*fileStore).setSyncTimer", "newFileStoreWithCreatedAndMode"),
	},
}

// at matches a stack that begins with a function of nats-server.
func at(function string) *regexp.Regexp { return stack(":\n", function) }

// stack matches functions of nats-server that call each other, the innermost first.
// What is before them is a line's end, and at the beginning of a stack a colon too, with
// which the header of a report's part ends.
func stack(before string, functions ...string) *regexp.Regexp {
	for i, f := range functions {
		functions[i] = regexp.QuoteMeta("  github.com/nats-io/nats-server/v2/server."+f+"()") + `\n`
	}
	return regexp.MustCompile(before + strings.Join(functions, ` {6}\S+ \+0x[0-9a-f]+\n`))
}
