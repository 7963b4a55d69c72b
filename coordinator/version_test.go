package coordinator

import "testing"

func TestVersionsAreSemantic(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"dev": "0.0.0-dev", "1.2.3": "1.2.3", "v1.2.3": "1.2.3", "1.2.3-rc.1+x": "1.2.3-rc.1+x", "0.0.0": "0.0.0", "main at 12ab": "0.0.0-main-at-12ab", "1.2": "0.0.0-1-2",
	} {
		if got := semantic(version); got != want {
			t.Errorf("%q is told as %q, want %q", version, got, want)
		}
	}
}
