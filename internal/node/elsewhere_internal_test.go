package node

import (
	"slices"
	"strings"
	"testing"
)

func TestWhichShardsAnEdgeServes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		named  string
		count  int
		own    []int  // of the first tenant; nil: refused
		others []int  // of the others; nil: refused
		why    string // part of the reason
	}{
		{"", 3, []int{0, 1, 2}, []int{0, 1, 2}, ""},
		{"", 1, []int{0}, []int{0}, ""},
		{"0", 1, []int{0}, []int{0}, ""},
		{"1-2,0,1", 3, []int{1, 2, 0}, []int{1, 2, 0}, ""},
		{"2-5", 4, nil, []int{2, 3}, "from 0 to 3"},
		{"4-7", 4, nil, []int{0, 1, 2, 3}, "from 0 to 3"},
		{"0-3", 1, nil, []int{0}, "leave --shards out"},
		{"4", 1, nil, []int{0}, "leave --shards out"},
		{"2-1", 4, nil, nil, ""},
		{"64", 64, nil, nil, "from 0 to 63"},
		{"0,", 4, nil, nil, ""},
		{"0, 1", 4, nil, nil, ""},
		{"-1", 4, nil, nil, ""},
		{"1-", 4, nil, nil, ""},
		{"0-99999999999999999999", 4, nil, nil, ""},
	} {
		own, err := shardSet(c.named).in(c.count)
		if !slices.Equal(own, c.own) || (err == nil) != (c.own != nil) || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q of %d: %v, %v", c.named, c.count, own, err)
		}
		others, err := shardSet(c.named).within(c.count)
		if !slices.Equal(others, c.others) || (err == nil) != (c.others != nil) {
			t.Errorf("%q of %d, of another tenant: %v, %v", c.named, c.count, others, err)
		}
		if err := CheckShards(c.named); (err == nil) != (c.others != nil) {
			t.Errorf("%q: %v", c.named, err)
		}
	}
}

// Clients make addresses of them, and some end for good where they cannot.
func TestOnlyAnAddressIsAdvertised(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "ws://edge-1", "wss://edge-1.example.com", "wss://[::1]:8443/v1/ws?a=b", "WSS://edge-1:1/"} {
		if err := CheckAdvertised(url); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, url := range []string{
		"edge-1", "https://edge-1", "wss:edge-1", "wss://", "wss:///v1/ws", "wss://:443", "wss://edge-1:0", "wss://edge-1:65536",
		"wss://edge-1/#", "wss://edge-1/#x", "wss://user:secret@edge-1", "wss://<HOST>", "wss://" + strings.Repeat("x", maxAdvertised),
	} {
		if CheckAdvertised(url) == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
