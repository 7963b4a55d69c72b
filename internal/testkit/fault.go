package testkit

import (
	"regexp"
	"strings"
)

// Fault is the first thing in a program's log that no log may hold, with what
// follows it: a panic, a fatal error of the runtime, or a data race. It is empty
// where there is none. A race that nats-server has with itself does not count:
// see [upstream].
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

// upstream tells that a report is of the one race that is known in nats-server:
// up to 2.15.3, the first two subscriptions at one moment through one stream
// import that renames each make the reversed mapping of the import, in
// (*client).addShadowSub, without a lock. Both make the same one. Both ends of
// the race must be there.
func upstream(report string) bool {
	ends := strings.Split(strings.TrimSpace(report), "\n\n")
	return len(ends) >= 2 && strings.Contains(ends[0], shadow) && strings.Contains(ends[1], shadow)
}

const shadow = "nats-server/v2/server.(*client).addShadowSub()\n"
