package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
)

// copied is a second data directory with the same keys.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "keys"), os.DirFS(filepath.Join(dir, "keys"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(glob(t, to, "keys/*"), filepath.Join(to, "keys")) {
		mode := os.FileMode(0o600)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			mode = 0o700
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// revokedIn are the names of what is revoked in the keys, sorted.
func revokedIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := open(t, dir).Revocations()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

func TestChangesMadeWithTwoCopiesOfTheKeysComeTogether(t *testing.T) {
	t.Parallel()
	here := t.TempDir()
	open(t, here)
	there := copied(t, here)
	change := func(dir, name string) auth.Account {
		t.Helper()
		account, err := open(t, dir).RevokeMany(auth.Revocation{Kind: auth.RevokedUser, Name: name, At: time.Now()}, auth.Keys{})
		must(t, account, err)
		return account
	}
	adopt := func(dir string, account auth.Account) auth.Account {
		t.Helper()
		got, err := open(t, dir).Adopt(account.JWT)
		must(t, got, err)
		return got
	}
	want := func(dir string, names ...string) {
		t.Helper()
		if got := revokedIn(t, dir); !slices.Equal(got, names) {
			t.Errorf("%s has %q, want %q", dir, got, names)
		}
	}

	// One that was told is taken over as it is, a copy that is older is not.
	first := change(here, "alice")
	if err := open(t, here).Told(first.JWT); err != nil {
		t.Fatal(err)
	}
	if got := adopt(there, first); got.JWT != first.JWT {
		t.Error("the JWT that servers use was not taken as it is")
	}
	second := change(here, "bob")
	if err := open(t, here).Told(second.JWT); err != nil {
		t.Fatal(err)
	}
	if got := adopt(here, first); got.JWT != second.JWT {
		t.Error("an older JWT has replaced a newer")
	}

	// Changes that nobody was told of stay, whichever of the two is newer.
	change(there, "carol")
	merged := adopt(there, second)
	want(there, "alice", "bob", "carol")
	change(here, "dave")
	if _, err := open(t, here).Restore(auth.Revocation{Kind: auth.RevokedUser, Name: "alice"}, auth.Keys{}); err != nil {
		t.Fatal(err)
	}
	last := adopt(here, merged)
	want(here, "bob", "carol", "dave")
	if got := adopt(here, last); got.JWT != last.JWT {
		t.Error("its own JWT was changed")
	}
	if err := open(t, there).Told(merged.JWT); err != nil {
		t.Fatal(err)
	}
	adopt(there, last)
	want(there, "bob", "carol", "dave")
}

func TestAdoptingRefusesWhatIsNotOfTheInstallation(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	open(t, dir)
	for name, token := range map[string]string{
		"of another installation": open(t, other).Account().JWT,
		"the system account":      open(t, dir).System().JWT,
		"the operator":            open(t, dir).OperatorJWT(),
		"nothing":                 "",
	} {
		if _, err := open(t, dir).Adopt(token); err == nil {
			t.Errorf("%s: taken", name)
		} else if name == "of another installation" && !errors.Is(err, auth.ErrNotTrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
