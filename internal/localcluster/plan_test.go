package localcluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/localcluster"
)

func TestServersShareKeysAndReachEachOther(t *testing.T) {
	t.Parallel()
	plan := localcluster.Plan{Dir: t.TempDir(), Servers: 3, Edges: 2, Config: []byte("max_payload: 1MB\n")}
	all, err := plan.Processes()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 5 || all[0].Devices != "" || all[4].Devices == "" || all[4].Name != "edge-2" {
		t.Fatalf("%+v", all)
	}
	for _, name := range []string{"operator.nk", "default.nk", "default.jwt"} {
		var first []byte
		for n := range 3 {
			path := filepath.Join(filepath.Dir(plan.Data()), "server-"+string(rune('1'+n)), "keys", name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = data
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || string(data) != string(first) {
				t.Errorf("%s: %v, %v, or another key", path, info.Mode(), err)
			}
		}
	}
	for n, p := range all[:3] {
		conf, err := os.ReadFile(p.Args[slices.Index(p.Args, "--config")+1])
		if err != nil {
			t.Fatal(err)
		}
		if text := string(conf); !strings.Contains(text, "max_payload") || strings.Count(text, "nats://") != 2 ||
			!strings.Contains(text, `server_name: "server-`+string(rune('1'+n))) {
			t.Errorf("%s", conf)
		}
	}
	if again, err := plan.Processes(); err != nil || len(again) != 5 { // on what is there
		t.Errorf("%v, %v", again, err)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]localcluster.Plan{
		"no directory":    {Servers: 3, Edges: 1},
		"too few servers": {Dir: t.TempDir(), Servers: 2, Edges: 1},
		"no edge":         {Dir: t.TempDir(), Servers: 3},
	} {
		if _, err := plan.Processes(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
