# Everything to build and check RCCS. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
export NPM_CONFIG_UPDATE_NOTIFIER := false

GO      ?= go
BIN     := $(CURDIR)/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)

# How long one fuzz target and one benchmark run; the longest a test package may.
FUZZTIME     ?= 10s
BENCHTIME    ?= 1s
TEST_TIMEOUT ?= 20m

include tools/versions.mk

# Installed from tools/go.mod, which pins them.
LINT := $(BIN)/golangci-lint
NATS := $(BIN)/nats
VULN := $(BIN)/govulncheck

.PHONY: all
all: fmt-check vet lint test ## All checks, as .ci/run does them (the default)

.PHONY: run
run: build ## Build, and serve with the data in ./data
	exec $(BIN)/rccs serve --data ./data

.PHONY: cluster
cluster: build ## Build, and try three servers and two edges with the data in ./cluster
	exec $(BIN)/rccs cluster --dir ./cluster

.PHONY: build
build: console ## Build bin/rccs, with the console where Node is there
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/rccs ./cmd/rccs

# The console is built when its sources are newer than what was built. Without
# Node the program is built all the same, and says at /console/ what is missing.
.PHONY: console
console: ## Build the console into web/dist; needs Node 20 and npm
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory -s web/dist/index.html; \
	else \
		echo 'no npm here: built without the console. Install Node 20 with npm, and run make again, to have it'; \
	fi

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(shell find web/src web/public web/index.html web/*.ts web/tsconfig.json -type f)
	cd web && npm run --silent build
	@touch $@

# tools/changed.sh says which packages are tested. What is left out of them starts
# processes or whole installations, or takes many seconds: packages by name here,
# single tests by need.Long, which heeds -short. What has not changed since the
# last time is not run again. What others wrote is compiled before the time begins:
# once on a machine, and for minutes.
LONG_PACKAGES := e2e|deploy|internal/(api|backup|chaos|load|node|sdktest|share|survey|testfast)
FAST          ?= 40s

.PHONY: test-fast
test-fast: ## Unit tests of the packages that have changed, then of those that import them, for FAST (40s): for the inner loop; names what it did not get to
	@packages=$$(tools/changed.sh | grep -vE '/($(LONG_PACKAGES))$$' || true); \
	if [ -z "$$packages" ]; then echo 'what has changed is tested by `make test` alone'; exit; fi; \
	$(GO) build $$($(GO) list -deps -test -f '{{with .Module}}{{if not .Main}}{{$$.ImportPath}}{{end}}{{end}}' $$packages); \
	$(GO) run ./internal/testfast -within $(FAST) $$packages

# The tests of JavaScript in Node run beside Go's, many of which wait for a clock.
# Those in a browser have the machine to themselves. `make vet` is a check of its own,
# so go test does not do a part of it once more. And a race is told when it is found:
# the race detector need not wait for more at the end of each package. cmd/rccs comes
# first, beside packages that start no processes: it runs whole installations in its
# own, which gets too little of a processor beside those that the long packages start.
.PHONY: test
test: | $(NATS) ## All tests, with the race detector, in random order
	@rm -f $(BIN)/skipped
	js/scripts/test.sh js >$(BIN)/test-js.log 2>&1 & js=$$!; failed=0; \
	export RCCS_SKIPPED=$(BIN)/skipped GORACE=atexit_sleep_ms=0; test='$(GO) test -race -shuffle=on -vet=off -timeout $(TEST_TIMEOUT)'; \
	$$test ./cmd/rccs $$($(GO) list ./... | grep -vE '/(cmd/rccs|$(LONG_PACKAGES))$$') || failed=$$?; \
	$$test $$($(GO) list ./... | grep -E '/($(LONG_PACKAGES))$$') || failed=$$?; \
	wait $$js || failed=$$?; cat $(BIN)/test-js.log; exit $$failed
	@if [ -s $(BIN)/skipped ]; then echo "skipped, $$(wc -l < $(BIN)/skipped) of Go's tests:"; sed 's/^/  /' $(BIN)/skipped; fi
	$(GO) test -run AllocationsOfAMessage ./edge ./internal/wsconn # not built with the race detector, under which pools lose what they hold
	@js/scripts/test.sh browser

# What takes a night: faults for CHAOS, each fuzz target for ten minutes, all Go
# tests LONG_COUNT times, each time in another order, and JavaScript's once, at the
# full length that RCCS_LONG gives to those that are shorter in `make test`.
LONG_COUNT ?= 5

.PHONY: test-long
test-long: FUZZTIME = 10m
test-long: export RCCS_LONG = 1
test-long: release-check chaos fuzz ## For a night: packages, faults for CHAOS (30m), ten minutes a fuzz target, all Go tests LONG_COUNT (5) times
	$(GO) test -race -shuffle=on -count=$(LONG_COUNT) -timeout 24h ./...
	RCCS_E2E_SHARDS=4 $(GO) test -race -shuffle=on -count=1 -timeout 24h ./e2e # each server with four shards
	RCCS_LONG=1 js/scripts/test.sh

.PHONY: test-js
test-js: ## Tests of JavaScript in Node; skips by name what is not installed
	@js/scripts/test.sh js

.PHONY: test-browser
test-browser: ## Tests of JavaScript in Chromium; skips by name what is not installed
	@js/scripts/test.sh browser

.PHONY: js-install
js-install: ## Install what the tests of JavaScript need, as the lock files pin it
	npm ci --prefix js --no-audit --no-fund --loglevel=error
	npm ci --prefix js/test/react18 --no-audit --no-fund --loglevel=error
	npm ci --prefix js/test/runtimes --no-audit --no-fund --loglevel=error
	npm ci --prefix examples --no-audit --no-fund --loglevel=error

.PHONY: demo
demo: build js-install ## A phone that steers agents on two desktops; prints an address and its QR code
	npm run build --silent --prefix js
	node examples/agent/demo.js

# For how long faults are made, and how often a server is killed and started.
CHAOS        ?= 30m
CHAOS_STARTS ?= 200

.PHONY: chaos
chaos: ## Break a cluster and a server alone in every way for CHAOS (30m), and write the tables of docs/reliability.md
	@rm -f chaos.md
	RCCS_CHAOS=$(CHAOS) RCCS_CHAOS_REPORT=$(CURDIR)/chaos.md $(GO) test -count=1 -timeout 24h -v -run 'NothingAcceptedIsLostWhateverBreaks|NothingIsLostSilently' ./internal/chaos
	RCCS_CHAOS=$(CHAOS) RCCS_CHAOS_REPORT=$(CURDIR)/chaos.md $(GO) test -count=1 -timeout 24h -v -run NothingAcceptedIsLostInAnyOfSeveralShards ./internal/chaos
	RCCS_CHAOS=$(CHAOS) RCCS_CHAOS_STARTS=$(CHAOS_STARTS) $(GO) test -count=1 -timeout 24h -v -run ServeStartsAfterEverySIGKILL ./internal/chaos
	@echo && cat chaos.md

.PHONY: docs
docs: build site/node_modules/.package-lock.json ## The documentation as a site with search, in site/dist; needs Node 20 and npm
	npm run build --silent --prefix site

site/node_modules/.package-lock.json: site/package-lock.json
	npm ci --prefix site --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file func; do \
		echo "== $${file%/*} $${func#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) "$${file%/*}" </dev/null; \
	done

.PHONY: bench
bench: ## Every benchmark for BENCHTIME (1s), with allocations
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: fmt
fmt: $(LINT) ## Format all Go files
	$(LINT) fmt

.PHONY: fmt-check
fmt-check: $(LINT) ## Show what is not formatted, and fail if anything is not
	@$(LINT) fmt --diff || { echo 'not formatted as above: run `make fmt`' >&2; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet ./... $(wildcard ./js/test/testdata/go*)

.PHONY: lint
lint: $(LINT) ## golangci-lint, as .golangci.yml says
	$(LINT) run

VULNDB = $${GOVULNDB:-https://vuln.go.dev}

.PHONY: vuln
vuln: vuln-db $(VULN) ## Known vulnerabilities in what is used; asks vuln.go.dev, or GOVULNDB
	$(VULN) -db "$(VULNDB)" ./...

.PHONY: vuln-db
vuln-db:
	@db="$(VULNDB)"; \
	case "$$db" in file://*) test -d "$${db#file://}" ;; *) curl -fsS -m 10 -o /dev/null "$$db/index/db.json" ;; esac || { \
		echo "make vuln: the vulnerability database $$db cannot be reached: nothing was checked." \
			"Name a copy: GOVULNDB=file:///path/to/vulndb make vuln" >&2; exit 1; }

# What a release holds beside the program: pages of the manual and what shells
# complete, as the program itself writes them. The console is built into it.
.PHONY: release-files
release-files: console ## What archives and packages hold beside the program, in .release; needs Node 20 and npm
	@test -s web/dist/index.html || { echo 'make release-files: the console is not built: install Node 20 with npm' >&2; exit 1; }
	@rm -rf .release && mkdir -p .release/man .release/completions
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o .release/rccs ./cmd/rccs
	@.release/rccs reference --man .release/man
	@gzip -9nk .release/man/*.1
	@.release/rccs completion bash > .release/completions/rccs.bash
	@.release/rccs completion zsh > .release/completions/_rccs
	@.release/rccs completion fish > .release/completions/rccs.fish
	@.release/rccs completion powershell > .release/completions/rccs.ps1
	@rm .release/rccs

# What a release holds for every system is looked at, and what is for this one
# installed and started.
.PHONY: release-check
release-check: deploy-tools release-snapshot ## Check .goreleaser.yaml and the charts, build a whole release into ./dist, install and start what is for this machine
	$(BIN)/goreleaser check --quiet
	RCCS_DIST=$(CURDIR)/dist $(GO) test -count=1 -tags release -timeout $(TEST_TIMEOUT) -run '^(TestARelease|TestTheDebs|TestTheRPMs|TestTheStages|TestTheChart|TestThePlainManifests|TestTheManifestsFit)' ./deploy

# The manifests for those who have no Helm are what the chart makes.
.PHONY: manifests
manifests: $(BIN)/helm ## Write deploy/kubernetes/rccs.yaml, which the Helm chart makes
	@mkdir -p deploy/kubernetes
	@{ printf '# RCCS in namespace rccs, as the chart in deploy/helm/rccs makes it by itself:\n# `make manifests` writes this file. docs/kubernetes.md says what to do first.\n\n'; \
		$(BIN)/helm template rccs deploy/helm/rccs --namespace rccs --kube-version $(patsubst v%,%,$(KUBERNETES_VERSION)); } > deploy/kubernetes/rccs.yaml.new
	@mv deploy/kubernetes/rccs.yaml.new deploy/kubernetes/rccs.yaml

.PHONY: release-snapshot
release-snapshot: $(BIN)/goreleaser $(BIN)/cyclonedx-gomod ## Build all archives and packages into ./dist, and publish nothing: some ten minutes
	PATH="$(BIN):$$PATH" $(BIN)/goreleaser release --snapshot --clean

.PHONY: release-tools
release-tools: $(BIN)/goreleaser $(BIN)/cyclonedx-gomod ## Install what makes releases, as tools/versions.mk pins it

.PHONY: deploy-tools
deploy-tools: $(BIN)/helm $(BIN)/kubeconform ## Install what checks the charts, as tools/versions.mk pins it

.PHONY: tools
tools: $(LINT) $(NATS) $(BIN)/gofumpt ## Install the pinned tools below ./bin

.PHONY: nats
nats: $(NATS) ## Install the stock NATS command line, bin/nats

.PHONY: clean
clean: ## Remove ./bin, and no data
	rm -rf $(BIN) .release dist

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A tool is installed again when its pin may have moved. `touch` because go
# leaves a program alone that has not changed.
TOOL = GOBIN=$(BIN) $(GO) install -C tools -trimpath -ldflags '-s -w'

$(LINT): tools/go.mod
	$(TOOL) github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(NATS): tools/go.mod
	$(TOOL) github.com/nats-io/natscli/nats
	@touch $@

$(VULN): tools/go.mod
	$(TOOL) golang.org/x/vuln/cmd/govulncheck
	@touch $@

$(BIN)/gofumpt: tools/go.mod
	$(TOOL) mvdan.cc/gofumpt
	@touch $@

# These are pinned in tools/versions.mk.
PINNED = GOBIN=$(BIN) $(GO) install -trimpath -ldflags '-s -w'

$(BIN)/goreleaser: tools/versions.mk
	$(PINNED) github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)
	@touch $@

$(BIN)/cyclonedx-gomod: tools/versions.mk
	$(PINNED) github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(GOMOD_SBOM_VERSION)
	@touch $@

$(BIN)/helm: tools/versions.mk
	$(PINNED) helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	@touch $@

$(BIN)/kubeconform: tools/versions.mk
	$(PINNED) github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
	@touch $@
