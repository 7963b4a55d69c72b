package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/ops"
)

// Names that are always offered: any other is fine, too.
var (
	// messageTypes are those that docs/protocol.md gives a meaning.
	messageTypes = []string{
		"notification", "user_message", "user_response", "task_start", "task_pause", "task_resume", "task_cancel", "task_status",
		"file_upload", "file_download", "file_sync", "file_delete", "device_handoff",
	}
	deviceTypes = []string{"mobile", "desktop", "extension", "browser"}
)

// flagNames offers values of a flag that are names: those that RCCS knows, and
// those that the running installation has. It is nil for other flags.
func (env *environment) flagNames(cmd *cobra.Command, flag string) cobra.CompletionFunc {
	asked := func(ask asking) cobra.CompletionFunc {
		return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return env.offer(cmd, typed, ask)
		}
	}
	switch path := cmd.CommandPath(); {
	case flag == "kinds":
		return completeKinds
	case flag == "type" && path == "rccs devices ls":
		return asked(typesOfDevices)
	case flag == "type" && (path == "rccs send" || path == "rccs connect" || path == "rccs tail"):
		return fixed(messageTypes)
	case flag == "type", flag == "device-type":
		return fixed(deviceTypes)
	case flag == "topic":
		return asked(topicNames)
	case flag == "to", flag == "after":
		return asked(deviceNames)
	case flag == "user":
		return asked(userNames)
	}
	return nil
}

func fixed(names []string) cobra.CompletionFunc {
	return cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// completeKinds offers the next kind of a list with commas.
func completeKinds(_ *cobra.Command, _ []string, typed string) (list []cobra.Completion, _ cobra.ShellCompDirective) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	given := strings.Split(before, ",")
	for _, kind := range ops.FlowKinds() {
		if !slices.Contains(given, kind) {
			list = append(list, before+kind)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// typesOfDevices are those that the devices have said of themselves.
func typesOfDevices(ctx context.Context, t *ops.Tenant, _ string) (names []string, err error) {
	list, _, err := t.Devices(ctx, ops.DeviceQuery{})
	for _, d := range list {
		if d.Type != "" && !slices.Contains(names, d.Type) {
			names = append(names, d.Type)
		}
	}
	slices.Sort(names)
	return names, err
}

// topicNames are the topics that hold messages.
func topicNames(ctx context.Context, t *ops.Tenant, _ string) (names []string, err error) {
	list, _, err := t.Topics(ctx, ops.TopicQuery{})
	for _, topic := range list {
		names = append(names, topic.Topic)
	}
	return names, err
}

// keysOf are the keys of the installation that a command line names; the server
// does not have to run.
func (env *environment) keysOf(cmd *cobra.Command) (*auth.Keystore, error) {
	if err := env.bind(cmd.Flags()); err != nil {
		return nil, err
	}
	return env.installed(cmd.Flags().Lookup("data").Value.String())
}

// completeRevoked offers what can be taken back: kinds, and the names of one.
func (env *environment) completeRevoked(cmd *cobra.Command, args []string, typed string) (list []cobra.Completion, none cobra.ShellCompDirective) {
	none = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 {
		for _, kind := range []auth.RevocationKind{auth.RevokedDevice, auth.RevokedUser, auth.RevokedService, auth.RevokedAll} {
			list = append(list, string(kind))
		}
		return list, none
	}
	keys, err := env.keysOf(cmd)
	if err != nil {
		return nil, none
	}
	all, err := keys.Revocations()
	if err != nil {
		return nil, none
	}
	for _, r := range all {
		if string(r.Kind) == args[0] && strings.HasPrefix(r.Name, typed) {
			list = append(list, r.Name)
		}
	}
	return list, none
}

// completeServices offers the services for which these keys made credentials.
func (env *environment) completeServices(cmd *cobra.Command, typed string) (list []cobra.Completion, none cobra.ShellCompDirective) {
	none = cobra.ShellCompDirectiveNoFileComp
	keys, err := env.keysOf(cmd)
	if err != nil {
		return nil, none
	}
	_, services, err := keys.Holders(auth.Revocation{Kind: auth.RevokedAll})
	if err != nil {
		return nil, none
	}
	for _, name := range services {
		if strings.HasPrefix(name, typed) {
			list = append(list, name)
		}
	}
	return list, none
}
