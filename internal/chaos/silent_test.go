package chaos_test

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/subjects"
)

// A stream whose server stands still answers nobody, while the others of the cluster
// go on. Every process that needs it says so, and so does the doctor,
// until it answers again.
func TestFault_AStreamThatAnswersNobodyIsTold(t *testing.T) {
	need.Long(t, "a stream has half a minute to answer")
	c := newCluster(t)
	defer c.health()
	js, nc := c.jetStream()
	defer nc.Close()
	stream, err := js.Stream(t.Context(), subjects.StreamUp)
	if err != nil {
		t.Fatal(err)
	}
	conf := stream.CachedInfo().Config
	conf.Replicas = 1
	if _, err := js.UpdateStream(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	leader := ""
	eventually(t, "the stream is on one server", func() bool {
		s, err := js.Stream(t.Context(), subjects.StreamUp)
		if err != nil || s.CachedInfo().Cluster == nil || len(s.CachedInfo().Cluster.Replicas) > 0 {
			return false
		}
		leader = s.CachedInfo().Cluster.Leader
		return leader != ""
	}, &leader)
	at := slices.IndexFunc(c.procs, func(p *proc) bool { return p.Name == leader })
	held, others := c.procs[at], slices.Delete(slices.Clone(c.procs), at, at+1)

	held.signal(syscall.SIGSTOP)
	defer held.signal(syscall.SIGCONT)
	for _, p := range others {
		last := ""
		eventually(t, p.Name+" says which stream answers nobody", func() bool {
			status, body := p.get("/readyz")
			last = body
			return status == http.StatusServiceUnavailable && strings.Contains(body, "stream RCCS_UP answers nobody: restart ")
		}, &last)
	}
	if status, out := others[0].command(c.plan.Data(), "doctor"); status != 1 || !strings.Contains(out, "RCCS_UP answers nobody") {
		t.Errorf("doctor: status %d\n%s", status, out)
	}
	held.signal(syscall.SIGCONT)
	ready(t, c.procs)
	out := ""
	eventually(t, "the doctor has nothing to say of it", func() bool {
		_, out = others[0].command(c.plan.Data(), "doctor")
		return !strings.Contains(out, "RCCS_UP answers nobody")
	}, &out)
}
