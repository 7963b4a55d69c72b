package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// given is a flag of the command line.
type given struct{ name, value string }

// aim remembers the flags by which the command finds its installation, as they
// were given on the command line. What the environment says holds for the next
// command by itself.
func (env *environment) aim(cmd *cobra.Command) {
	env.root, env.aimed = cmd.Root(), nil
	names := []string{"data", "server", "context", "tenant"}
	if cmd.Flag("server") != nil { // elsewhere --creds are a device's
		names = append(names, "creds")
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		for _, name := range names {
			if f.Name == name {
				value := f.Value.String()
				if name == "server" {
					value = shown(value)
				}
				env.aimed = append(env.aimed, given{name, value})
			}
		}
	})
}

// named finds a command in a text, in the quotes that help and errors use.
var named = regexp.MustCompile(`'rccs [a-z][^'\n]*'`)

// hints gives each command that a text names the flags that this one was given,
// so that it can be copied and goes to the same installation.
func (env *environment) hints(text string) string {
	if len(env.aimed) == 0 {
		return text
	}
	return named.ReplaceAllStringFunc(text, func(quoted string) string {
		line := strings.Trim(quoted, "'")
		cmd, _, err := env.root.Find(strings.Fields(line)[1:])
		if err != nil || cmd.HasSubCommands() {
			return quoted
		}
		for _, f := range env.aimed {
			if f.name == "tenant" && cmd.HasParent() && cmd.Parent().Name() == "tenants" {
				continue // those are of all tenants
			}
			if cmd.Flag(f.name) != nil && !strings.Contains(line+" ", " --"+f.name+" ") {
				line += " --" + f.name + " " + quote(f.value)
			}
		}
		return "'" + line + "'"
	})
}

// bare is a word that no shell changes.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:,@%+=-]+$`)

// quote writes a word for a shell.
func quote(word string) string {
	if bare.MatchString(word) {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(word) + `"`
}
