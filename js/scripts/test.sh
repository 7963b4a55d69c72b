#!/usr/bin/env bash
# Tests of JavaScript: what `make test` runs beside Go's. Installs nothing: what
# cannot be run here is skipped by name, and counted at the end. With
# RCCS_REQUIRE_ALL=1, as in CI, a skip is a failure.
#
#   test.sh js         the SDK and the examples, in Node
#   test.sh browser    the SDK, the examples and the console, in Chromium
#   test.sh            both
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skipped=()
# ready NAME FILE... reports whether all files are there, and skips NAME where one is not.
ready() {
	local name=$1 file
	shift
	for file in "$@"; do
		if [ ! -e "$file" ]; then
			skipped+=("$name: there is no $file (see CONTRIBUTING.md)")
			return 1
		fi
	done
}

installed=(js/node_modules/.package-lock.json js/test/react18/node_modules/.package-lock.json examples/node_modules/.package-lock.json)
chromium=${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1 || true)}
export CHROMIUM=$chromium

tests_js() {
	command -v npm >/dev/null || { skipped+=("JavaScript SDK: there is no Node 20 with npm"); return; }
	ready "JavaScript SDK in Deno and Bun" js/test/runtimes/node_modules/.package-lock.json || true
	if ready "JavaScript SDK" "${installed[@]}"; then npm test --prefix js; fi
}

# The console is tested with a program that has it, built for the test.
tests_console() {
	if ready "console in Chromium" web/node_modules/playwright-core web/dist/index.html; then
		local dir
		dir=$(mktemp -d)
		go build -o "$dir/rccs" ./cmd/rccs
		RCCS_BIN=$dir/rccs npm test --prefix web || { rm -rf "$dir"; return 1; }
		rm -rf "$dir"
	fi
}

tests_browser() {
	command -v npm >/dev/null || { skipped+=("browser tests: there is no Node 20 with npm"); return; }
	[ -n "$chromium" ] || { skipped+=("browser tests: there is no Chromium"); return; }
	if ready "JavaScript SDK in Chromium" "${installed[@]}"; then npm run test:browser --prefix js; fi
	tests_console
}

case "${1:-all}" in
js) tests_js ;;
browser) tests_browser ;;
all) tests_js; tests_browser ;;
*) echo "usage: $0 [js|browser]" >&2; exit 2 ;;
esac

if [ ${#skipped[@]} -gt 0 ]; then
	echo "skipped, ${#skipped[@]} of JavaScript's tests:"
	printf '  %s\n' "${skipped[@]}"
	[ "${RCCS_REQUIRE_ALL:-}" != 1 ] || { echo "RCCS_REQUIRE_ALL is set: a skip is a failure" >&2; exit 1; }
fi
