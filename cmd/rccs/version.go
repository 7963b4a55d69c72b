package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version of rccs, of the NATS server in it, and of Go.",
		Example: "  rccs version",
		Args:    arguments(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			return env.printf("rccs %s (nats-server %s, %s)\n", version, moduleVersion("github.com/nats-io/nats-server/v2"), runtime.Version())
		},
	}
}

// moduleVersion is the version of a module that was built in.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
