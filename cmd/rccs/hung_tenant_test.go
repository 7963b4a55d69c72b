//go:build unix

package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/devicetest"
	"github.com/rccs-io/rccs/internal/testkit"
)

// A tenant whose start neither ends nor fails, here since a file of its own does not
// answer, keeps no tenant that is added later waiting. It is served when it can be.
func TestATenantThatHangsKeepsNoOtherFromBeingServed(t *testing.T) {
	t.Parallel()
	i := serve(t)
	c := i.console()

	// Its account is known before the server sees it.
	aside := filepath.Join(t.TempDir(), "aside")
	testkit.Check(t, os.CopyFS(filepath.Join(aside, "keys"), os.DirFS(filepath.Join(i.data, "keys"))))
	testkit.Check(t, filepath.WalkDir(aside, func(path string, _ fs.DirEntry, _ error) error { return os.Chmod(path, 0o700) }))
	keys, err := auth.OpenKeystore(aside)
	testkit.Check(t, err)
	acme, err := keys.AddTenant("acme", auth.Limits{})
	testkit.Check(t, err)
	damaged := filepath.Join(i.data, "damaged")
	testkit.Check(t, os.MkdirAll(damaged, 0o700))
	hangs := filepath.Join(damaged, "x."+acme.Account().PublicKey+".x.report.json")
	testkit.Check(t, syscall.Mkfifo(hangs, 0o600))
	released := false
	release := func() {
		if !released {
			released = true
			pipe, err := os.OpenFile(hangs, os.O_RDWR, 0)
			testkit.Check(t, err)
			testkit.Check(t, os.Remove(hangs))
			testkit.Check(t, pipe.Close()) // nothing can be read of it, and that is an error
		}
	}
	defer release()
	files, err := filepath.Glob(filepath.Join(aside, "keys", "tenant-acme*"))
	testkit.Check(t, err)
	slices.SortFunc(files, func(a, b string) int { // with the JWT the tenant is there
		return strings.Compare(filepath.Ext(b), filepath.Ext(a))
	})
	for _, from := range files {
		text, err := os.ReadFile(from)
		testkit.Check(t, err)
		testkit.Check(t, os.WriteFile(filepath.Join(i.data, "keys", filepath.Base(from)), text, 0o600))
	}
	bearer := func(tenant string) string {
		return strings.TrimSpace(c.succeed(t, "creds", "device", "alice/phone", "--bearer", "--tenant", tenant).out)
	}
	register := func(tenant string) (kind, frame string) {
		d := devicetest.Connect(t, i.edge, devicetest.How{})
		d.SendRegister(bearer(tenant), "")
		return d.Next()
	}
	frame := ""
	testkit.Eventually(t, "a device of the tenant is told to come back", func() bool {
		_, frame = register("acme")
		return strings.Contains(frame, "UNAVAILABLE")
	})

	c.succeed(t, "tenants", "add", "zed")
	if kind, frame := register("zed"); kind != "ack" {
		t.Errorf("a device of the tenant that was added later is told %s", frame)
	}
	testkit.Eventually(t, "the process is ready", func() bool {
		status, _ := ready(t, i.admin, "")
		return status == http.StatusOK
	})

	release()
	testkit.Eventually(t, "the tenant is served", func() bool {
		kind, _ := register("acme")
		return kind == "ack"
	})
}
