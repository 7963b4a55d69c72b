package headers

import "strings"

// OfNATS reports whether a header's name is one of those that NATS reads or sets.
func OfNATS(name string) bool { return len(name) >= 5 && strings.EqualFold(name[:5], "Nats-") }
