package auth_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/rccs-io/rccs/auth"
)

var files = []string{
	"operator.nk", "operator-signing.nk", "system.nk", "default.nk", "default-signing.nk",
	"operator.jwt", "system.jwt", "default.jwt",
}

func TestKeysAreMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "yet")
	first := open(t, dir)
	if !first.Created() || first.Dir() != filepath.Join(dir, "keys") {
		t.Errorf("created %t in %s", first.Created(), first.Dir())
	}
	second := open(t, dir)
	if second.Created() || fingerprint(first) != fingerprint(second) {
		t.Errorf("opened again: created %t, same %t", second.Created(), fingerprint(first) == fingerprint(second))
	}
	if other := open(t, t.TempDir()); fingerprint(other) == fingerprint(first) {
		t.Error("two installations have the same keys")
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	open(t, dir)
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			found++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || found != len(files) {
		t.Fatalf("%d files, want %d and nothing else (%v)", found, len(files), err)
	}
}

func TestAccountsAreAsNATSWantsThem(t *testing.T) {
	t.Parallel()
	k := open(t, t.TempDir())
	operator, err := jwt.DecodeOperatorClaims(k.OperatorJWT())
	must(t, operator, err)
	if operator.Subject != k.Operator().Subject || operator.SystemAccount != k.System().PublicKey {
		t.Errorf("operator %s with system account %s", operator.Subject, operator.SystemAccount)
	}
	tenants := []auth.Account{k.Account()}
	if len(tenants) != 1 || tenants[0].Name != auth.DefaultTenant {
		t.Fatalf("tenants %v", tenants)
	}
	for _, account := range []auth.Account{k.System(), tenants[0]} {
		claims, err := jwt.DecodeAccountClaims(account.JWT)
		must(t, claims, err)
		if claims.Subject != account.PublicKey || claims.Issuer == operator.Subject || !operator.DidSign(claims) {
			t.Errorf("%s: subject %s, issuer %s; want it signed by a signing key", account.Name, claims.Subject, claims.Issuer)
		}
	}
	claims, err := jwt.DecodeAccountClaims(tenants[0].JWT)
	must(t, claims, err)
	js := jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	if claims.Limits.JetStreamLimits != js || claims.Limits.Conn != -1 || len(claims.SigningKeys) != 1 {
		t.Errorf("tenant has limits %+v and signing keys %v", claims.Limits, claims.SigningKeys.Keys())
	}
	var problems jwt.ValidationResults
	operator.Validate(&problems)
	claims.Validate(&problems)
	if problems.IsBlocking(true) {
		t.Errorf("NATS would refuse them: %v", problems.Errors())
	}
}

// Threads and processes that start on one empty directory end with one set of
// keys, made by one of them.
func TestManyOpenersMakeOneSetOfKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	type opened struct {
		created bool
		keys    string
	}
	const threads, processes = 16, 4
	start := make(chan struct{})
	results := make(chan opened, threads+processes)
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			<-start
			k, err := auth.OpenKeystore(dir)
			if err != nil {
				t.Error(err)
				return
			}
			results <- opened{k.Created(), fingerprint(k)}
		})
	}
	for range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), openVariable+"="+dir)
			<-start
			out, err := cmd.CombinedOutput()
			created, keys, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
			if err != nil || !ok || created == "error" {
				t.Errorf("process: %v: %s", err, out)
				return
			}
			results <- opened{created == "true", keys}
		})
	}
	close(start)
	wg.Wait()
	close(results)
	makers, sets := 0, make(map[string]int)
	for r := range results {
		sets[r.keys]++
		if r.created {
			makers++
		}
	}
	if makers != 1 || len(sets) != 1 {
		t.Errorf("%d made keys, %d sets of keys in use; want one of each", makers, len(sets))
	}
	left, err := filepath.Glob(filepath.Join(dir, ".keys-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A start that was cut short leaves nothing that a later one stumbles over.
func TestInterruptedStartIsStartedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{".keys-123", "keys"} { // the second made by hand, say
		if err := os.Mkdir(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".keys-123", "operator.nk"), []byte("SO"), 0o600); err != nil {
		t.Fatal(err)
	}
	if k := open(t, dir); !k.Created() {
		t.Error("no keys were made")
	}
	open(t, dir)
}

func TestKeysOpenToOthersAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range append([]string{"."}, files...) {
		for _, mode := range []fs.FileMode{0o001, 0o004, 0o002} {
			dir := t.TempDir()
			open(t, dir)
			path := filepath.Join(dir, "keys", name)
			info, err := os.Stat(path)
			must(t, info, err)
			if err := os.Chmod(path, info.Mode().Perm()|mode); err != nil {
				t.Fatal(err)
			}
			_, err = auth.OpenKeystore(dir)
			if err == nil || !strings.Contains(err.Error(), "chmod ") || !strings.Contains(err.Error(), path) {
				t.Fatalf("%s with mode %o more: %v", name, mode, err)
			}
			if err := os.Chmod(path, info.Mode().Perm()); err != nil { // as the error said
				t.Fatal(err)
			}
			open(t, dir)
		}
	}
}

// Whatever one file has come to, the error names a file that is wrong, no key
// is replaced, and the right file mends it.
func TestSpoiltKeysAreRefusedAndKept(t *testing.T) {
	t.Parallel()
	foreign := t.TempDir()
	open(t, foreign)
	for what, spoil := range map[string]func(path, name string) error{
		"missing": func(path, _ string) error { return os.Remove(path) },
		"empty":   func(path, _ string) error { return os.Truncate(path, 0) },
		"cut":     func(path, _ string) error { return os.Truncate(path, 40) },
		"foreign": func(path, name string) error {
			content, err := os.ReadFile(filepath.Join(foreign, "keys", name))
			if err != nil {
				return err
			}
			return os.WriteFile(path, content, 0o600)
		},
	} {
		for _, name := range files {
			t.Run(what+" "+name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				before := open(t, dir)
				path := filepath.Join(dir, "keys", name)
				content, err := os.ReadFile(path)
				must(t, content, err)
				if err := spoil(path, name); err != nil {
					t.Fatal(err)
				}
				_, err = auth.OpenKeystore(dir)
				if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "keys")) || !strings.Contains(err.Error(), "backup") {
					t.Errorf("error %v does not say what to restore", err)
				}
				if what != "foreign" && !strings.Contains(err.Error(), name) {
					t.Errorf("error %v does not name %s", err, name)
				}
				content = append(content, '\n') // restored with an editor
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if after := open(t, dir); fingerprint(after) != fingerprint(before) || after.Created() {
					t.Error("restored, the keys are others")
				}
			})
		}
	}
}

func TestPlaceThatCannotHoldKeysIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := auth.OpenKeystore(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// An account's JWT of the right account, but signed by another operator, would
// be refused by every NATS server: better here, by name.
func TestAccountsOfAnotherOperatorAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"system.jwt", "default.jwt"} {
		dir := t.TempDir()
		open(t, dir)
		path := filepath.Join(dir, "keys", name)
		token, err := os.ReadFile(path)
		must(t, token, err)
		claims, err := jwt.DecodeAccountClaims(string(token))
		must(t, claims, err)
		foreign, err := claims.Encode(newTenant(t).operator)
		must(t, foreign, err)
		if err := os.WriteFile(path, []byte(foreign), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.OpenKeystore(dir); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "operator.jwt") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
