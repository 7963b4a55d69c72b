//go:build release

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
	"github.com/rccs-io/rccs/internal/testkit"
)

// stages are those of a Dockerfile, done by hand: each has a directory for its
// root, and its commands are this machine's. So they have this machine's Go and
// Node, and not those of the images that the stages begin from.
type stages struct {
	t     *testing.T
	roots map[string]string // by name; the last stage has none
	in    string            // the stage that is built
	dir   string            // its WORKDIR
	env   []string
}

var from = regexp.MustCompile(`^(\S+)(?: AS (\S+))?$`)

// build follows a Dockerfile up to its end.
func (s *stages) build(file string) {
	s.t.Helper()
	text, err := os.ReadFile(file)
	check(s.t, err)
	for line := range strings.Lines(continued.ReplaceAllString(string(text), " ")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "FROM":
			m := from.FindStringSubmatch(rest)
			s.in, s.dir, s.env = m[2], "/", nil
			s.roots[s.in] = s.t.TempDir()
		case "WORKDIR":
			s.dir = rest
			check(s.t, os.MkdirAll(s.path(rest), 0o755))
		case "ARG":
			s.env = append(s.env, rest)
		case "COPY":
			s.copy(strings.Fields(rest))
		case "RUN":
			cmd := exec.CommandContext(s.t.Context(), "sh", "-ec", s.below(rest))
			cmd.Dir, cmd.Env = s.path(s.dir), append(testkit.Environ(), s.env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				s.t.Fatalf("RUN %s: %v\n%s", rest, err, out)
			}
		}
	}
}

// path is where a path of the stage lies.
func (s *stages) path(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.dir, name)
	}
	return filepath.Join(s.roots[s.in], name)
}

// below is a command whose absolute paths lie below the stage's root.
func (s *stages) below(command string) string {
	return regexp.MustCompile(`(^|\s)/(out|src)\b`).ReplaceAllString(command, "${1}"+s.roots[s.in]+"/${2}")
}

// copy does what COPY says, from another stage or from what git knows of the
// repository.
func (s *stages) copy(args []string) {
	s.t.Helper()
	base := ""
	for len(args) > 0 && strings.HasPrefix(args[0], "--") {
		if name, ok := strings.CutPrefix(args[0], "--from="); ok {
			base = s.roots[name]
		}
		args = args[1:]
	}
	to := s.path(args[len(args)-1])
	for _, name := range args[:len(args)-1] {
		// A directory's content is copied, and a file to a name or into a directory.
		script := `mkdir -p "$(dirname "$2/.")"; if [ -d "$1" ]; then cp -a "$1/." "$2"; else rmdir "$2" 2>/dev/null || true; cp -a "$1" "$2"; fi`
		source := filepath.Join(base, name)
		if base == "" {
			source = name
			script = `mkdir -p "$2"; git ls-files -z --cached --others --exclude-standard -- "$1" | tar -c --null -T - | tar -x -C "$2"`
			if name != "." { // the files lie below the directory that is copied
				script += ` --strip-components "$(printf %s "$1" | tr / '\n' | grep -c .)"`
			}
			if info, err := os.Stat(filepath.Join("..", name)); err == nil && !info.IsDir() {
				script = `mkdir -p "$2"; cp -a "$1" "$2"`
			}
		}
		cmd := exec.CommandContext(s.t.Context(), "sh", "-ec", script, "-", source, to)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("COPY %s: %v\n%s", name, err, out)
		}
	}
}

// What the stages of the Dockerfile build is what its last one needs, and serves
// as the compose file starts it.
func TestTheStagesOfTheDockerfileMakeAnImageThatServes(t *testing.T) {
	t.Parallel()
	need.Program(t, "npm")
	s := &stages{t: t, roots: make(map[string]string)}
	s.build("docker/Dockerfile")
	at := newStack(t, "compose.yaml") // skips where nobody may make a root
	built := filepath.Join(s.roots[""], "usr/local/bin/rccs")
	isFor(t, built, target{"linux", runtime.GOARCH})
	for _, dir := range []string{"var/lib/rccs", "run/rccs"} {
		info, err := os.Stat(filepath.Join(s.roots[""], dir))
		check(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %s", dir, info.Mode())
		}
	}
	at.program = built
	c := at.up("rccs")
	at.healthy(c)
	delivers(t, c, c)
}
