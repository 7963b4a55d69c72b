package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/auth"
)

// mounted lays a directory of keys out as Kubernetes mounts a secret: files that
// the group may read, reached by links through a directory that begins with dots.
func mounted(t *testing.T, keys string) string {
	t.Helper()
	mount := filepath.Join(t.TempDir(), "mount")
	version := filepath.Join(mount, "..2026_11_28")
	if err := os.MkdirAll(version, 0o750); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(keys, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(version, e.Name()), content, 0o440); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", e.Name()), filepath.Join(mount, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..2026_11_28", filepath.Join(mount, "..data")); err != nil {
		t.Fatal(err)
	}
	return mount
}

// sameAccount compares the stored JWTs of two accounts. That of their services is
// made from them anew at each opening, with the second of it.
func sameAccount(a, b *auth.Keystore) bool {
	return a.Account().PublicKey == b.Account().PublicKey && a.Account().JWT == b.Account().JWT
}

func TestServersOfOneSecretAreOneInstallation(t *testing.T) {
	t.Parallel()
	first := t.TempDir()
	k, err := auth.OpenKeystore(first)
	if err != nil {
		t.Fatal(err)
	}
	mount := mounted(t, filepath.Join(first, "keys"))
	second := filepath.Join(t.TempDir(), "data")
	for range 2 { // the second time its own copy is there
		if err := auth.TakeKeys(second, mount); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := auth.OpenKeystore(second)
	if err != nil {
		t.Fatal(err)
	}
	if taken.Created() || taken.Operator().Subject != k.Operator().Subject || !sameAccount(taken, k) {
		t.Errorf("created %t, operator %s, want %s", taken.Created(), taken.Operator().Subject, k.Operator().Subject)
	}
	// The copy can be changed, and the change is not undone by the secret.
	if _, err := taken.AddTenant("acme", auth.Limits{}); err != nil {
		t.Fatal(err)
	}
	if err := auth.TakeKeys(second, mount); err != nil {
		t.Fatal(err)
	}
	names, err := taken.TenantNames()
	if err != nil || len(names) != 2 {
		t.Errorf("tenants %q, %v", names, err)
	}
}

func TestATenantThatIsAddedToTheSecretIsTaken(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "data")
	k, err := auth.OpenKeystore(first)
	if err != nil {
		t.Fatal(err)
	}
	take := func() *auth.Keystore {
		t.Helper()
		if err := auth.TakeKeys(second, mounted(t, filepath.Join(first, "keys"))); err != nil {
			t.Fatal(err)
		}
		taken, err := auth.OpenKeystore(second)
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	take()
	made, err := k.AddTenant("acme", auth.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := take().Tenant("acme")
	if err != nil || !sameAccount(tenant, made) {
		t.Fatalf("another tenant than the one that was made, %v", err)
	}
	if _, err := tenant.RemoveTenant(); err != nil {
		t.Fatal(err)
	}
	if _, err := take().Tenant("acme"); err == nil {
		t.Error("a tenant that was removed came back")
	}
}

func TestKeysOfAnotherInstallationAreNotTaken(t *testing.T) {
	t.Parallel()
	one, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, other} {
		if _, err := auth.OpenKeystore(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := auth.TakeKeys(one, filepath.Join(other, "keys")); err == nil || !strings.Contains(err.Error(), "another installation") {
		t.Errorf("%v", err)
	}
}

func TestKeysThatAreIncompleteAreNotTaken(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "data")
	if _, err := auth.OpenKeystore(from); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(from, "keys")
	missing := filepath.Join(keys, "system.nk")
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	if err := auth.TakeKeys(to, keys); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "keys")); !os.IsNotExist(err) {
		t.Errorf("keys were left behind: %v", err)
	}
	if err := auth.TakeKeys(to, filepath.Join(from, "none")); err == nil {
		t.Error("a directory that is not there was taken")
	}
}
