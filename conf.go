// Package rccs holds what is built into the rccs program from the root of the
// repository: the default configuration of its NATS server.
package rccs

import (
	_ "embed"
	"slices"
)

//go:embed nats.conf
var natsConf []byte

// DefaultConfig is the text of nats.conf, the configuration of the NATS server
// which is used when no other is given. The caller owns the copy.
func DefaultConfig() []byte { return slices.Clone(natsConf) }
