package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/auth"
)

func newCredsSystemCommand(env *environment) *cobra.Command {
	var data, name string
	cmd := &cobra.Command{
		Use:   "system",
		Short: "Print a credential of the system account",
		Long: `Print a credential of the NATS system account, for commands that look at the
servers themselves, such as 'nats server report'. Whoever holds it may do
anything to the servers, and it does not expire: keep it as you keep the keys.`,
		Example: `  rccs creds system > system.creds
  nats server report jetstream --creds system.creds`,
		Args: arguments(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if err := auth.CheckPart(name); err != nil {
				return usageError{fmt.Errorf("--name: %w", err)}
			}
			keys, err := env.installed(data)
			if err != nil {
				return err
			}
			cred, err := keys.IssueSystem(name)
			if err != nil {
				return err
			}
			return env.printCreds(cred)
		},
	}
	cmd.Flags().StringVarP(&data, "data", "d", "./data", "`directory` of the installation's keys")
	cmd.Flags().StringVar(&name, "name", "operator", "`name` that servers show for its connections")
	return cmd
}
