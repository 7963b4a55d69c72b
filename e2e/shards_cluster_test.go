package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	defaults "github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/localcluster"
	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// shardedCluster runs three servers, each with an edge, whose tenant has so many
// shards.
func shardedCluster(t *testing.T, shards int) []*server {
	t.Helper()
	plan := clusterPlan(t)
	if _, err := auth.OpenKeystoreWith(plan.Data(), shards); err != nil {
		t.Fatal(err)
	}
	return runCluster(t, plan, nil)
}

func clusterPlan(t *testing.T) *localcluster.Plan {
	t.Helper()
	return &localcluster.Plan{Dir: t.TempDir(), Config: defaults.DefaultConfig(), Servers: 3, Edges: 1}
}

// runCluster returns when all servers of a plan serve devices. meanwhile, if set, is
// called when they have been started.
func runCluster(t *testing.T, plan *localcluster.Plan, meanwhile func(first localcluster.Process), more ...string) []*server {
	t.Helper()
	layout, err := plan.Processes()
	if err != nil {
		t.Fatal(err)
	}
	tokens := &mint{data: plan.Data()}
	t.Cleanup(func() { _ = tokens.close() })
	all, failed := make([]*server, plan.Servers), make([]error, plan.Servers)
	started := make(chan struct{}, plan.Servers)
	for n, p := range layout[:plan.Servers] {
		args := append(slices.Clone(p.Args), append([]string{"--trusted-proxy", "127.0.0.1"}, more...)...)
		args[slices.Index(args, "--listen")+1] = "127.0.0.1:0"
		go func() {
			defer func() { started <- struct{}{} }()
			var one *process
			if one, failed[n] = startCommand(command(context.WithoutCancel(t.Context()), args...)); failed[n] == nil {
				all[n] = &server{process: one, data: plan.Data(), tokens: tokens}
			}
		}()
	}
	if meanwhile != nil {
		meanwhile(layout[0])
	}
	for range all {
		<-started
	}
	for n, s := range all {
		if s == nil {
			continue
		}
		t.Cleanup(func() {
			if err := s.kill(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("log of server %d:\n%s", n+1, tail(s.log.String()))
			}
		})
	}
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	return all
}

// Each shard has three copies: with one server gone all users go on.
func TestShards_OutliveAServerOfThree(t *testing.T) {
	t.Parallel()
	need.Long(t, "it runs a cluster of three servers")
	all := shardedCluster(t, 2)
	const users = 6
	v := all[0].service(t, "billing")
	shards := map[string]bool{}
	// A cluster may choose a leader meanwhile. What is stored twice is stored once.
	give := func(v *service, u, what string) {
		t.Helper()
		testkit.Eventually(t, "a message is stored", func() bool {
			ack, err := v.try(inbox(u, "phone", "normal"), fmt.Sprintf("%q", what), "Nats-Msg-Id", u+what)
			if err == nil {
				shards[ack.Stream] = true
			}
			return err == nil
		})
	}
	var names []string
	for n := range users {
		u := userOf(t, n%2)
		names = append(names, u)
		give(v, u, "before")
	}
	if len(shards) != 2 {
		t.Fatalf("what is for %d users is in %v", users, shards)
	}
	var phones, desktops []*device
	for _, u := range names {
		phone, desktop := connect(t, all[1], u+"/phone", nil), connect(t, all[2], u+"/desktop", nil)
		phone.ack(phone.wantMessage(`"before"`).Seq)
		desktop.give("phone", "across", nil)
		phone.ack(phone.wantMessage(`"across"`).Seq)
		if o := desktop.outcome(); o.Status != "delivered" {
			t.Errorf("heard %+v", o)
		}
		if _, err := v.try("rccs.later."+token(u)+".phone.normal.x", `"later"`, "Rccs-Id", "x",
			"Nats-Schedule", "@at "+time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano), "Nats-Schedule-Target", "rccs.due."+token(u)+".phone.normal"); err != nil {
			t.Fatal(err)
		}
		phone.ack(phone.wantMessage(`"later"`).Seq)
		phones, desktops = append(phones, phone), append(desktops, desktop)
	}
	if err := all[0].kill(); err != nil {
		t.Fatal(err)
	}
	v = all[1].service(t, "billing-2")
	for i, u := range names {
		give(v, u, "after")
		phones[i].ack(phones[i].wantMessage(`"after"`).Seq)
		phones[i].give("desktop", "still here", nil)
		desktops[i].ack(desktops[i].wantMessage(`"still here"`).Seq)
	}
}
