package main

import (
	"fmt"
	"strconv"

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
	if err != nil || shard.Check(v) != nil {
		return fmt.Errorf("want a number from 1 to %d", shard.Max)
	}
	*n = shardCount(v)
	return nil
}
