package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func frameOf(id, payload string) []byte {
	return []byte(`{"type":"note","id":"` + id + `","payload":"` + payload + `"}`)
}

func TestJournalKeepsWhatWasNotRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox")
	j, kept, err := openJournal(path)
	if err != nil || len(kept) != 0 {
		t.Fatalf("a new file keeps %d, %v", len(kept), err)
	}
	for n := range 10 {
		if err := j.put(frameOf(fmt.Sprint("m", n), "\\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"m0", "m5", "m9"} {
		if err := j.remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.put(frameOf("m0", "again")); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	j, kept, err = openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range kept {
		ids = append(ids, m.id)
	}
	if got := strings.Join(ids, " "); got != "m1 m2 m3 m4 m6 m7 m8 m0" || !bytes.Contains(kept[7].frame, []byte("again")) {
		t.Errorf("keeps %s", got)
	}
	_ = j.close()
}

// TestJournalIsCutAtAnyByte ends the process at every place of a file.
func TestJournalIsCutAtAnyByte(t *testing.T) {
	t.Parallel()
	var text []byte
	var ends []int
	for n := range 3 {
		text = appendRecord(text, '+', frameOf(fmt.Sprint("m", n), "+ 1 2 \\n"))
		ends = append(ends, len(text))
	}
	for at := range len(text) + 1 {
		kept, whole := readJournal(text[:at])
		n := 0
		for n < len(ends) && ends[n] <= at {
			n++
		}
		if len(kept) != n || n > 0 && whole != ends[n-1] {
			t.Fatalf("cut at %d it keeps %d up to %d, want %d", at, len(kept), whole, n)
		}
	}
	path := filepath.Join(t.TempDir(), "outbox")
	if err := os.WriteFile(path, text[:len(text)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what was cut off does not hide what comes after it
		j, kept, err := openJournal(path)
		if err != nil || len(kept) != 2 && len(kept) != 3 {
			t.Fatalf("keeps %d, %v", len(kept), err)
		}
		if len(kept) == 2 {
			if err := j.put(frameOf("m7", "")); err != nil {
				t.Fatal(err)
			}
		} else if kept[2].id != "m7" {
			t.Errorf("keeps %s at the end", kept[2].id)
		}
		_ = j.close()
	}
}

func TestJournalIsWrittenAnewWhenItIsMostlyWaste(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox")
	j, _, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 300<<10)
	for n := range 5 {
		if err := errors.Join(j.put(frameOf(fmt.Sprint("m", n), large)), j.remove(fmt.Sprint("m", n))); err != nil {
			t.Fatal(err)
		}
	}
	if !j.wasteful(0) || j.wasteful(1<<20) {
		t.Errorf("%d bytes of waste are not judged right", j.size)
	}
	last := frameOf("last", "")
	if err := j.rewrite([][]byte{last}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openJournal(path); err == nil {
		t.Error("the new file is not locked")
	}
	if err := j.put(frameOf("next", "")); err != nil {
		t.Fatal(err)
	}
	_ = j.close()
	if s, err := os.Stat(path); err != nil || s.Size() > 1000 {
		t.Errorf("the file has %d bytes, %v", s.Size(), err)
	}
	j, kept, err := openJournal(path)
	if err != nil || len(kept) != 2 || kept[0].id != "last" || kept[1].id != "next" {
		t.Errorf("keeps %+v, %v", kept, err)
	}
	_ = j.close()
}

func FuzzReadJournal(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, '+', frameOf("a", "x")), '-', []byte("a")))
	f.Add([]byte("+ 2 0 {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		kept, whole := readJournal(text)
		if whole > len(text) {
			t.Fatalf("read %d of %d bytes", whole, len(text))
		}
		again, _ := readJournal(text[:whole])
		if len(again) != len(kept) {
			t.Fatalf("keeps %d, then %d", len(kept), len(again))
		}
	})
}
