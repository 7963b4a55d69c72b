package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// An edge and a coordinator with credentials of several tenants wait for the first
// one. Another tenant whose credential is not good keeps none of the others waiting,
// is named wherever operators look, and is served when it can be.
func TestATenantThatIsMissingKeepsNoOtherFromAnEdge(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()
	c.succeed(t, "tenants", "add", "acme")
	c.succeed(t, "tenants", "add", "zed")
	dir := t.TempDir()
	file := func(tenant string) string { return filepath.Join(dir, tenant+".creds") }
	part := func(tenant string) {
		text := c.succeed(t, "creds", "part", "apart", "--tenant", tenant).out
		if err := os.WriteFile(file(tenant), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tenant := range []string{"default", "acme", "zed"} {
		part(tenant)
	}
	bearer := func(tenant string) string {
		return strings.TrimSpace(c.succeed(t, "creds", "device", "alice/phone", "--bearer", "--tenant", tenant).out)
	}
	c.succeed(t, "revoke", "all", "--yes", "--tenant", "acme")
	creds := []string{
		"--creds", file("default"), "--tenant-creds", file("acme"), "--tenant-creds", file("zed"), "--server", i.nats, "--name", "apart", "--admin-listen", "127.0.0.1:0",
	}
	edge := console{}.start(t, append([]string{"edge", "--listen", "127.0.0.1:0"}, creds...)...)
	devices := edge.await(`^devices +(ws://\S+)$`)[1]
	coordinator := console{}.start(t, append([]string{"coordinator"}, creds...)...)
	for _, p := range []*running{edge, coordinator} {
		admin := p.await(`^admin +(http://\S+)$`)[1]
		testkit.Eventually(t, "it is ready, and names the tenant", func() bool {
			status, text := ready(t, admin, "")
			return status == http.StatusOK && strings.HasPrefix(text, "ready\n") &&
				strings.Contains(text, "not served: tenant acme: ") && strings.Contains(text, "Authorization") && !strings.Contains(text, "zed")
		})
		if _, text := ready(t, admin, "evil.example"); text != "ready\n" {
			t.Errorf("a web page reads %q", text)
		}
		p.noted("a tenant cannot be served")
	}
	register := func(tenant string) (kind, frame string) {
		d := devicetest.Connect(t, devices, devicetest.How{})
		d.SendRegister(bearer(tenant), "")
		return d.Next()
	}
	if kind, frame := register("zed"); kind != "ack" {
		t.Errorf("a device of a tenant that is there is told %s", frame)
	}
	if _, frame := register("acme"); !strings.Contains(frame, "UNAVAILABLE") {
		t.Errorf("a device of the tenant that is not served is told %s", frame)
	}
	testkit.Eventually(t, "doctor names the tenant", func() bool {
		said := c.run(t, "doctor").out
		return strings.Contains(said, "edge apart does not serve every tenant: tenant acme") && strings.Contains(said, "does not serve every tenant (1 missing)")
	})
	answer, err := i.service(t, "billing").Request("rccs.coordinator.edges", nil, testkit.Patience)
	if err != nil || strings.Contains(string(answer.Data), "acme") || !strings.Contains(string(answer.Data), "apart") {
		t.Errorf("a service is told %s, %v", answer.Data, err)
	}

	part("acme")
	edge.noted(`"msg":"tenant is served","tenant":"acme"`)
	if kind, frame := register("acme"); kind != "ack" {
		t.Errorf("a device of the tenant that came later is told %s", frame)
	}
	coordinator.noted(`"msg":"tenant is served","tenant":"acme"`)
	edge.stop()
	coordinator.stop()
}

// ready asks whether a process is ready, as a page of host's would.
func ready(t *testing.T, admin, host string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
