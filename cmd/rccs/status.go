package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rccs-io/rccs/internal/ops"
)

type statusFlags struct {
	target
	interval time.Duration
}

func newStatusCommand(env *environment) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the installation at a glance",
		Long: `Show servers, streams and how fast they grow, edges, coordinators, how many
devices there are and how many are connected, and the inboxes that fall behind.

With the installation's keys (--data) all servers are asked. What is online is
what edges said when they renewed their leases, up to a few seconds ago.`,
		Example: `  rccs status
  rccs status --interval 10s --json`,
		Args: arguments(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.operate(cmd.Context(), &f.target, func(ctx context.Context, t *ops.Tenant) error {
				s, err := t.Status(ctx, ops.StatusOptions{Interval: f.interval, Behind: 5})
				if err != nil {
					return err
				}
				if f.json {
					return env.json(s)
				}
				return env.status(s)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "how long streams are watched to tell their rates; 0: not at all")
	return cmd
}

// coordinators says how many there are and, of several, which shards each works.
func coordinators(all []ops.Coordinator) string {
	if len(all) < 2 {
		return number(len(all))
	}
	var each []string
	for _, c := range all {
		what := "stands by"
		switch {
		case c.Shards == nil:
			what = "works all shards" // an older version
		case len(c.Shards) > 0:
			what = "works shards " + strings.Trim(strings.ReplaceAll(fmt.Sprint(c.Shards), " ", ", "), "[]")
		}
		each = append(each, printable(c.ID)+" "+what)
	}
	return fmt.Sprintf("%s (%s)", number(len(all)), strings.Join(each, "; "))
}

// status prints it for people.
func (env *environment) status(s *ops.Status) error {
	limit := "no limit"
	if s.Store.Limit >= 0 {
		limit = size(uint64(s.Store.Limit))
	}
	cluster := ""
	if s.Server.Cluster != "" {
		cluster = ", cluster " + s.Server.Cluster
	}
	if err := env.printf("server        %s, nats-server %s%s, answers in %s\nstored        %s of %s\ndevices       %s, %s online\ncoordinators  %s\n\n",
		printable(s.Server.URL), s.Server.Version, cluster, s.Server.RTT.Round(10*time.Microsecond), size(s.Store.Used), limit,
		number(s.Devices), number(s.Online), coordinators(s.Coordinators)); err != nil {
		return err
	}
	tables := []*table{edgeTable(s.Edges), streamTable(s.Streams)}
	if len(s.Servers) > 0 {
		tables = append([]*table{serverTable(s.Servers)}, tables...)
	}
	if len(s.Behind) > 0 {
		behind := newTable(column{title: "FALLS BEHIND"}, column{title: "UNACKNOWLEDGED", right: true}, column{title: "OLDEST", right: true})
		for _, i := range s.Behind {
			behind.row(i.Address().String(), number(i.Unacknowledged), ago(i.Oldest))
		}
		tables = append(tables, behind)
	}
	for i, t := range tables {
		if i > 0 {
			if err := env.printf("\n"); err != nil {
				return err
			}
		}
		if err := env.table(t); err != nil {
			return err
		}
	}
	return nil
}

func serverTable(list []ops.ServerStats) *table {
	t := newTable(column{title: "SERVER"}, column{title: "VERSION", extra: 2}, column{title: "UP", right: true}, column{title: "CPU", right: true},
		column{title: "MEMORY", right: true}, column{title: "CONNECTIONS", right: true, extra: 1}, column{title: "STORED", right: true}, column{title: "OF", right: true})
	for _, s := range list {
		t.row(s.Name, s.Version, ago(&s.Started), fmt.Sprintf("%.0f %%", s.CPU), size(uint64(max(s.Memory, 0))), number(s.Connections),
			size(s.StoreUsed), size(uint64(max(s.StoreLimit, 0))))
	}
	return t
}

func streamTable(list []ops.StreamStatus) *table {
	t := newTable(column{title: "STREAM"}, column{title: "MESSAGES", right: true}, column{title: "SIZE", right: true}, column{title: "PER SECOND", right: true},
		column{title: "LAST", right: true}, column{title: "COPIES", least: 6})
	for _, s := range list {
		t.row(s.Name, number(s.Messages), size(s.Bytes), fmt.Sprintf("%.1f", s.PerSecond), ago(s.Last), copies(&s))
	}
	return t
}

// copies says where a stream is, and which of its copies are not well.
func copies(s *ops.StreamStatus) string {
	if len(s.Replicas) == 0 {
		return "1"
	}
	var unwell []string
	for _, r := range s.Replicas {
		switch {
		case r.Offline:
			unwell = append(unwell, r.Name+" offline")
		case !r.Current:
			unwell = append(unwell, fmt.Sprintf("%s %d behind", r.Name, r.Lag))
		}
	}
	text := fmt.Sprintf("%d, led by %s", 1+len(s.Replicas), orDash(s.Leader))
	if len(unwell) > 0 {
		text += "; " + strings.Join(unwell, ", ")
	}
	return text
}
