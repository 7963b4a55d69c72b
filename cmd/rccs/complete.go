package main

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/ops"
)

// completeTimeout bounds a completion: a shell waits for it.
const completeTimeout = 2 * time.Second

// completeMost is how many names a completion offers.
const completeMost = 200

// placeholder is a name in the line that shows how a command is used.
var placeholder = regexp.MustCompile(`^\[?(USER|EDGE|NAME)\b(/DEVICE|\[/DEVICE\])?`)

// completeArguments offers the known names where a command takes one:
// it asks the running installation that the flags name.
func (env *environment) completeArguments(cmd *cobra.Command) {
	if cmd.ValidArgsFunction != nil || cmd.HasSubCommands() || cmd.Flags().Lookup("data") == nil {
		return
	}
	words := strings.Fields(cmd.Use)[1:]
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		word := words[len(args)]
		form := placeholder.FindString(word)
		switch {
		case strings.Contains(form, "DEVICE"):
			return env.offer(cmd, typed, deviceNames)
		case strings.HasPrefix(strings.TrimPrefix(form, "["), "USER"):
			return env.offer(cmd, typed, userNames)
		case word == "ID" && len(args) == 1 && cmd.HasParent() && cmd.Parent().Name() == "later":
			u, err := user(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return env.offer(cmd, typed, laterIDs(u))
		case strings.TrimPrefix(form, "[") == "EDGE":
			return env.offer(cmd, typed, edgeNames)
		case form == "NAME" && cmd.HasParent() && cmd.Parent().Name() == "tenants":
			return env.completeTenants(cmd, args, typed)
		case word == "KIND" || word == "[NAME]" && cmd.Name() == "undo":
			return env.completeRevoked(cmd, args, typed)
		case form == "NAME" && cmd.CommandPath() == "rccs revoke service":
			return env.completeServices(cmd, typed)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// asking asks an installation for names; what was typed may narrow it.
type asking func(ctx context.Context, t *ops.Tenant, typed string) ([]string, error)

// offer asks for names; without an answer there is nothing to offer.
func (env *environment) offer(cmd *cobra.Command, typed string, ask asking) ([]cobra.Completion, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	if env.bind(cmd.Flags()) != nil {
		return nil, nothing
	}
	env.findRunning(cmd)
	value := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	f := target{serverFlags: serverFlags{server: value("server"), data: value("data")}, context: value("context")}
	if f.server == "" { // a device's command, whose --creds are a device's
		a, _ := readAddresses(f.data)
		f.server = cmp.Or(a.NATS, nats.DefaultURL)
	} else {
		f.creds = value("creds")
	}
	f.ca, f.cert, f.key = value("server-ca"), value("server-cert"), value("server-key")
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	var names []cobra.Completion
	err := env.operate(ctx, &f, func(ctx context.Context, t *ops.Tenant) error {
		all, err := ask(ctx, t, typed)
		for _, name := range all {
			if strings.HasPrefix(name, typed) && len(names) < completeMost {
				names = append(names, name)
			}
		}
		return err
	})
	if err != nil {
		cobra.CompDebugln("rccs: "+err.Error(), false)
	}
	return names, nothing
}

// deviceNames are those of the user that was typed, or of all.
func deviceNames(ctx context.Context, t *ops.Tenant, typed string) (names []string, err error) {
	q := ops.DeviceQuery{}
	if name, _, ok := strings.Cut(typed, "/"); ok {
		if q.User, err = user([]string{name}); err != nil {
			return nil, err
		}
	}
	list, _, err := t.Devices(ctx, q)
	for _, d := range list {
		names = append(names, d.Address().String())
	}
	return names, err
}

func userNames(ctx context.Context, t *ops.Tenant, _ string) (names []string, err error) {
	list, _, err := t.Devices(ctx, ops.DeviceQuery{})
	for _, d := range list {
		if name := string(d.Address().User); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names, err
}

func edgeNames(ctx context.Context, t *ops.Tenant, _ string) (names []string, err error) {
	list, err := t.Edges(ctx)
	for _, e := range list {
		name := e.Name
		if slices.ContainsFunc(list, func(o ops.Edge) bool { return o.Name == e.Name && o.ID != e.ID }) {
			name = e.ID // the name is that of two
		}
		names = append(names, name)
	}
	return names, err
}
