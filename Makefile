# Needs GNU make, git and Go. `make help` lists the targets.

# What goes through whole state spaces, damaged files or a million transactions, nearly all
# of it in one goroutine. The race detector costs that 4 to 6 times and can find nothing
# there: these run whole without it, and with it as a sample (-short), which leaves no
# concurrent test out.
EXHAUSTIVE := coordinator/protocol wal wal/bolt

# A program with the race detector waits a second when it ends, for the races of goroutines
# that are left. Tests start hundreds of programs, and leave no goroutine.
export GORACE ?= atexit_sleep_ms=20

# Ten thousand streams and five thousand transactions at a server: a tenth of them with
# the race detector.
THOUSANDS := -count=1 -timeout=5m -run=LeaveNothingBehind ./coordinator/server

# Looked up when used: `make help` must not wait for them.
all        = $(shell go list -e ./...)
exhaustive = $(filter $(addprefix %/,$(EXHAUSTIVE)),$(all))
concurrent = $(filter-out $(exhaustive),$(all)) ./.ci/testreport

GOLANGCI := go tool -modfile=.ci/tools/golangci-lint.mod golangci-lint
GOFUMPT  := go tool -modfile=.ci/tools/gofumpt.mod gofumpt
BUF      := go tool -modfile=../../.ci/tools/buf.mod buf # from within API
REPORT   := go run ./.ci/testreport

API      := coordinator/api
RELEASED := testdata/api/released.binpb

BENCH    ?= .
FUZZTIME ?= 10s

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' Makefile | while read -r name what; do printf '  %-9s%s\n' "$$name" "$$what"; done

# Each quoted argument is one run of `go test`; -count=1 because the answer depends on the
# machine (capabilities, random seeds), which the test cache does not see.
.PHONY: test
test: prerequisites ## run every test, with -race where tests are concurrent
	@$(REPORT) "-race -count=1 -timeout=30m $(concurrent)" "$(THOUSANDS)" \
		$(if $(exhaustive),"-count=1 -timeout=15m $(exhaustive)" "-race -short -count=1 -timeout=15m $(exhaustive)")

.PHONY: quick
quick: ## run the tests that need no server, without -race, in at most 2 minutes
	@$(REPORT) "-short -timeout=2m ./... ./.ci/testreport"

.PHONY: lint
lint: ## check format, mistakes and the import table
	$(GOLANGCI) run ./... ./.ci/testreport
	go mod tidy -diff
	@cd $(API) && $(BUF) lint
	@cd $(API) && $(BUF) breaking --against ../../$(RELEASED)
	@cd $(API) && fresh=$$(mktemp -d) && $(BUF) generate -o $$fresh && \
		diff -r -x '*.proto' -x 'buf*.yaml' -x doc.go . $$fresh || { echo "$(API) is not what its .proto files say: make generate" >&2; exit 1; }

.PHONY: generate
generate: ## make the Go code of the API anew, offline
	cd $(API) && $(BUF) generate

.PHONY: released
released: ## keep the API as it is: what was released, lint lets nobody break
	cd $(API) && $(BUF) build --exclude-source-info -o ../../$(RELEASED)

.PHONY: fmt
fmt: ## format the Go files that are not generated
	$(GOFUMPT) -w $$(git ls-files -co --exclude-standard '*.go' ':!$(API)')

.PHONY: bench
bench: ## run the benchmarks that match BENCH
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: figures
figures: ## measure, draw testdata/bench/clients.svg and print the table that README shows
	@go run ./cmd/assent bench -o markdown --plot testdata/bench/clients.svg

.PHONY: pair
pair: ## measure on PostgreSQL and MariaDB and print README's second table
	@go run ./cmd/assent bench --databases --only pair -o markdown

.PHONY: server
server: ## measure the standalone server and print README's third table
	@go run ./cmd/assent bench --server --only server -o markdown

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

.PHONY: deps
deps: ## install the Debian packages some tests need (as root)
	@.ci/deps install

# A package that cannot be had is no reason to run nothing: the tests that need it say so,
# and ASSENT_REQUIRE makes that a failure.
.PHONY: prerequisites
prerequisites:
	@if [ "$$CI" = true ] || [ "$$ASSENT_INSTALL" = 1 ]; then .ci/deps install || true; else .ci/deps hint; fi
