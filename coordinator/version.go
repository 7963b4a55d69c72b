package coordinator

import (
	"regexp"
	"strings"
)

// semantic returns a version in the form that micro services need. Clients such
// as the nats command line refuse the whole answer if it is no semantic version,
// such as that of a program built from a work tree.
func semantic(version string) string {
	version = strings.TrimPrefix(version, "v")
	if regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?$`).MatchString(version) {
		return version
	}
	return "0.0.0-" + regexp.MustCompile(`[^0-9A-Za-z-]+`).ReplaceAllString(version, "-")
}
