package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/subjects"
)

// issuedTo are the keys that are written down for alice.
func issuedTo(t *testing.T, dir string) []string {
	t.Helper()
	list, err := open(t, dir).IssuedTo("alice")
	must(t, list, err)
	slices.Sort(list)
	return list
}

func TestIssuedDevicesAreRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := open(t, dir)
	if got := issuedTo(t, dir); got != nil {
		t.Fatalf("before the first: %q", got)
	}
	var want []string
	var wg sync.WaitGroup
	for n := range 20 { // processes at once
		a := subjects.Address{User: "alice", Device: subjects.DeviceID(fmt.Sprint("a device ", n))}
		key, err := keys.DeviceKey(a)
		want = append(want, must(t, key, err))
		wg.Go(func() {
			issued := open(t, dir).RecordIssued()
			issued.Add(a, auth.DeviceOptions{})
			issued.Add(subjects.Address{User: "alice2", Device: a.Device}, auth.DeviceOptions{})
			if err := issued.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := issuedTo(t, dir); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// What a crash has cut short is of nobody.
	f, err := os.OpenFile(filepath.Join(dir, "keys", "default.issued"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, f, err)
	if _, err := f.WriteString("99"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := issuedTo(t, dir); !slices.Equal(got, want) {
		t.Errorf("after a cut line: %q", got)
	}
}

func TestTheListOfIssuedDevicesStaysSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	issued := open(t, dir).RecordIssued()
	phone := subjects.Address{User: "alice", Device: "phone"}
	for range 450_000 {
		issued.Add(phone, auth.DeviceOptions{Expires: time.Hour})
	}
	if err := issued.Flush(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "keys", "default.issued"))
	if must(t, info, err); info.Size() > 100 {
		t.Errorf("%d bytes for one device", info.Size())
	}
	if got := issuedTo(t, dir); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}
