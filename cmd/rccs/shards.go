package main

import (
	"fmt"
	"strconv"

	"github.com/rccs-io/rccs/internal/node"
	"github.com/rccs-io/rccs/internal/shard"
)

// shardCount is the flag for the number of shards of a tenant; 0: it was not given.
type shardCount int

// String implements pflag.Value.
func (n *shardCount) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}

// Type implements pflag.Value.
func (*shardCount) Type() string { return "number" }

// Set implements pflag.Value.
func (n *shardCount) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil && node.CheckShards(s) == nil {
		return fmt.Errorf("want a number from 1 to %d, how many shards there are: which of them an edge serves is for 'rccs edge' alone", shard.Max)
	}
	if err != nil || shard.Check(v) != nil {
		return fmt.Errorf("want a number from 1 to %d", shard.Max)
	}
	*n = shardCount(v)
	return nil
}

// shardList is the flag for which shards an edge serves; empty: it was not given.
type shardList string

// String implements pflag.Value.
func (l *shardList) String() string { return string(*l) }

// Type implements pflag.Value.
func (*shardList) Type() string { return "string" }

// Set implements pflag.Value.
func (l *shardList) Set(s string) error {
	if err := node.CheckShards(s); err != nil {
		return err
	}
	*l = shardList(s)
	return nil
}

// SetVariable is Set from the environment, in which other commands look for how many
// shards there are. What may be that number is refused: an edge would serve one shard,
// that of this number, and say nothing.
func (l *shardList) SetVariable(s string) error {
	if n, err := strconv.Atoi(s); err == nil && shard.Check(n) == nil {
		return fmt.Errorf("an edge wants the shards that it serves, and for other commands this is how many there are: write 0-%d for all of them, %d-%[2]d for shard %[2]d alone, or use --shards", n-1, n)
	}
	return l.Set(s)
}
