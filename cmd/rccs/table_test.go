package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTablesFitTheirTerminal(t *testing.T) {
	t.Parallel()
	tab := newTable(column{title: "SEQ", right: true}, column{title: "ID", least: 6}, column{title: "FROM", least: 4}, column{title: "AGE"})
	tab.row("7", "a-long-identifier", "désktop", "1s")
	tab.row("12345", "b\x1b[31m", "x", "")
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, "  SEQ  ID                 FROM     AGE\n    7  a-long-identifier  désktop  1s\n12345  b\ufffd[31m             x\n"},
		{80, "  SEQ  ID                 FROM     AGE\n    7  a-long-identifier  désktop  1s\n12345  b\ufffd[31m             x\n"},
		{30, "  SEQ  ID         FROM     AGE\n    7  a-long-i…  désktop  1s\n12345  b\ufffd[31m     x\n"},
		{1, "  SEQ  ID      FROM  AGE\n    7  a-lon…  dés…  1s\n12345  b\ufffd[31m  x\n"}, // no narrower than it can be
	} {
		var out strings.Builder
		if err := tab.print(&out, c.width); err != nil || out.String() != c.want {
			t.Errorf("within %d:\n%s\nwant\n%s, %v", c.width, out.String(), c.want, err)
		}
	}
}

// Characters of East Asia take two cells, marks none.
func TestTablesAreAlignedInCells(t *testing.T) {
	t.Parallel()
	tab := newTable(column{title: "DEVICE"}, column{title: "TYPE", least: 4}, column{title: "SEQ", right: true})
	tab.row("山田/電話", "携帯電話です", "1")
	tab.row("e\u0301va/ﾊﾝﾃﾞ", "mobile-phone", "2")
	for width, want := range map[int]string{
		0:  "DEVICE     TYPE          SEQ\n山田/電話  携帯電話です    1\ne\u0301va/ﾊﾝﾃﾞ   mobile-phone    2\n",
		24: "DEVICE     TYPE      SEQ\n山田/電話  携帯電…     1\ne\u0301va/ﾊﾝﾃﾞ   mobile-…    2\n",
	} {
		var out strings.Builder
		if err := tab.print(&out, width); err != nil || out.String() != want {
			t.Errorf("within %d:\n%s\nwant\n%s, %v", width, out.String(), want, err)
		}
	}
}

func TestANarrowTerminalCostsExtraColumnsAndNoIDs(t *testing.T) {
	t.Parallel()
	tab := newTable(column{title: "ID"}, column{title: "TYPE", least: 4}, column{title: "FROM", extra: 1}, column{title: "BYTES", right: true, extra: 2})
	tab.row("an-id-to-copy", "long-type", "desktop", "12")
	for _, c := range []struct {
		width      int
		want, left string
	}{
		{0, "ID             TYPE       FROM     BYTES\nan-id-to-copy  long-type  desktop     12\n", ""},
		{36, "ID             TYPE   FROM     BYTES\nan-id-to-copy  long…  desktop     12\n", ""},
		{30, "ID             TYPE    FROM\nan-id-to-copy  long-…  desktop\n", "BYTES"},
		{10, "ID             TYPE\nan-id-to-copy  lon…\n", "BYTES FROM"},
	} {
		var out strings.Builder
		fitting, left := tab.fit(c.width)
		if err := fitting.print(&out, c.width); err != nil || out.String() != c.want || strings.Join(left, " ") != c.left {
			t.Errorf("within %d, without %q:\n%s\nwant without %q\n%s, %v", c.width, left, out.String(), c.left, c.want, err)
		}
	}
}

// What people copy into the next command is never cut: a column of names or ids
// may be left out on a narrow terminal, and is not shortened.
func TestNoTableCutsANameOrAnID(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	cut := regexp.MustCompile(`column\{title: "(DEVICE|ID|SEQ|EDGE|USER|RECIPIENT|TARGET|NAME|ACCOUNT|SERVER|STREAM|FALLS BEHIND|WHO)"[^}]*least`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, column := range cut.FindAllString(string(text), -1) {
			t.Errorf("%s: %s", file, column)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{number(0), "0"},
		{number(999), "999"},
		{number(1000), "1,000"},
		{number(uint64(1234567)), "1,234,567"},
		{number(-1234), "-1,234"},
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1536), "1.5 KiB"},
		{size(10 << 30), "10.0 GiB"},
		{span(0), "0ms"},
		{span(1500 * time.Millisecond), "1s"},
		{span(61 * time.Second), "1m01s"},
		{span(25 * time.Hour), "1d01h"},
		{span(-2 * time.Second), "-2s"},
		{span(90 * time.Minute), "1h30m"},
		{ago(nil), "-"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}
