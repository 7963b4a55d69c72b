package coordinator

import (
	"regexp"
	"strings"
)

// semantic is a version as micro services tell it. Clients such as the nats
// command line refuse the whole answer when it is no semantic version, as that
// of a program built from a work tree.
func semantic(version string) string {
	version = strings.TrimPrefix(version, "v")
	if regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?$`).MatchString(version) {
		return version
	}
	return "0.0.0-" + regexp.MustCompile(`[^0-9A-Za-z-]+`).ReplaceAllString(version, "-")
}
