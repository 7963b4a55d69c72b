package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versions are those of the program and of what it is made of.
type versions struct {
	Version    string `json:"version"`
	NATSServer string `json:"natsServer"`
	Go         string `json:"go"`
	Commit     string `json:"commit,omitempty"` // with a + for changes that were not committed
	Platform   string `json:"platform"`
}

func newVersionCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version of rccs, of the NATS server in it, and of Go.",
		Example: `  rccs version
  rccs version --json`,
		Args: arguments(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return env.json(currentVersions())
			}
			return env.printf("%s\n", currentVersions())
		},
	}
	cmd.Flags().BoolVarP(&asJSON, "json", "j", false, "print JSON")
	return cmd
}

// String is the versions in a line.
func (v versions) String() string {
	return "rccs " + v.Version + " (nats-server " + v.NATSServer + ", " + v.Go + ")"
}

func currentVersions() versions {
	v := versions{
		Version: version, NATSServer: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/nats-io/nats-server/v2" {
			v.NATSServer = m.Version
		}
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value + v.Commit
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+"
		}
	}
	return v
}
