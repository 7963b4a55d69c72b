#!/usr/bin/env bash
# changed.sh: the Go packages that `make test-fast` tests, one a line.
#
# They are the packages with a file that differs from BASE, and after them those
# that import one of these themselves. BASE is where the branch left origin/main, or main, so
# that on main itself only what is not committed counts. Where nothing differs, or
# go.mod does, they are all packages.
set -euo pipefail
cd "$(dirname "$0")/.."

all() { go list ./...; exit; }
main=$(git rev-parse -q --verify origin/main || git rev-parse -q --verify main) || all
base=${BASE:-$(git merge-base HEAD "$main")} || all
files=$(git diff --name-only "$base" -- && git ls-files --others --exclude-standard)
if grep -qxE 'go\.(mod|sum)' <<<"$files"; then all; fi

# A file of testdata belongs to the package above it. What only a package's own
# tests have does not reach those that import it, nor does a page of documentation.
changed=$(while read -r file; do
	dir=$(dirname "$file") whose=package
	case "$file" in
	*/testdata/*) whose=tests dir=${file%%/testdata/*} ;;
	*_test.go) whose=tests ;;
	*.md) continue ;;
	esac
	if [ "$dir" = . ] && [[ $file != *.go && $file != nats.conf ]]; then continue; fi
	if compgen -G "$dir/*.go" >/dev/null; then echo "$whose $dir"; fi
done <<<"$files" | sort -u)

go list -f '{{.ImportPath}} {{.Dir}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... |
	awk -v root="$PWD" -v changed="$changed" '
	BEGIN {
		n = split(changed, lines, "\n")
		for (i = 1; i <= n; i++) {
			if (split(lines[i], f, " ") != 2) continue
			dir = f[2] == "." ? root : root "/" f[2]
			any = touched[dir] = 1
			if (f[1] == "package") built[dir] = 1
		}
	}
	{ line[NR] = $0; if ($2 in built) reaches[$1] = 1 }
	END {
		for (i = 1; i <= NR; i++) {
			n = split(line[i], f, " ")
			take = !any || f[2] in touched
			for (k = 3; k <= n; k++) take = take || f[k] in reaches
			if (take && f[2] in touched) print f[1]
			else if (take) importers = importers f[1] "\n"
		}
		printf "%s", importers
	}'
