# `make run` and `make test` are all that a newcomer needs. Tools land in .cache, nothing is installed elsewhere but Debian packages
# that the tests need (redis-server, postgresql, prometheus), and those only where this user may install them.
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT     := .cache/bin/golangci-lint
LINT_VER := v2.15.0
SKIPS    := $(GO) run -pgo=off ./internal/testenv/skips .ci/skips # ends with what was skipped; fails where it may not be
export CGO_ENABLED = 0

.PHONY: screenshots clients files kill linear build run test race lint bench fmt chaos clean tools pgo

build: ## writes bin/promptgate
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/promptgate ./cmd/promptgate

run: build ## starts everything on the embedded default, with a demo project
	bin/promptgate serve --demo

tools: ## what the tests start: redis-server, PostgreSQL, Prometheus, the SDKs that call us, the reference of prices
	./.ci/tools

test: tools build
	$(SKIPS) $(GO) test -json -pgo=off -timeout 12m $$($(GO) list ./... | grep -v /cmd/)
	$(SKIPS) $(GO) test -json -pgo=off -timeout 20m -p 1 ./cmd/... # whole programs under load: one after the other

race: tools ## needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

lint: $(LINT)
	$(LINT) run --allow-parallel-runners ./...

$(LINT):
	GOBIN=$(CURDIR)/.cache/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VER)

fmt: $(LINT)
	$(LINT) fmt ./...

kill: tools ## kill -9 during writes, 200 times: nothing acknowledged is lost
	PROMPTGATE_TEST_LONG=1 $(GO) test -count=1 -timeout 30m -v -run '^TestKilledWhileWriting$$' ./cmd/promptgate

files: tools ## 1,000 random libraries as files: pull and push change nothing, and push there makes the same
	PROMPTGATE_TEST_LONG=1 $(GO) test -count=1 -timeout 30m -v -run '^TestFilesAreInverse$$' ./cmd/promptgate

linear: tools ## 100,000 label moves and reads on three replicas: no read older than demanded
	PROMPTGATE_TEST_LONG=1 $(GO) test -count=1 -timeout 30m -v -run '^TestLabelsAreLinearizable$$' ./cmd/promptgate

clients: ## Claude Code and Codex do a task through the gateway; installs them into .cache, 800 MB
	./.ci/tools clients
	PROMPTGATE_TEST_CLIENTS=1 $(GO) test -pgo=off -count=1 -timeout 5m -v -run '^TestCodingAgents$$' ./cmd/promptgate

bench: build ## figures as ratios in one run against a bare reverse proxy
	$(GO) test -pgo=off -run '^$$' -bench . -benchmem -timeout 30m ./...

pgo: build ## measures where the gateway spends its time under load; the compiler goes by it from then on
	PROMPTGATE_PGO=$(CURDIR)/cmd/promptgate/default.pgo $(GO) test -count=1 -run '^$$' -bench '^BenchmarkProfile$$' -benchtime 1x ./cmd/promptgate

chaos: tools ## three replicas under load while one thing after the other breaks: 20 minutes, or `go run ./cmd/chaos -short`
	$(GO) run ./cmd/chaos

screenshots: tools ## every page in Chromium at two widths, light and dark: pictures in .cache/screenshots
	PROMPTGATE_PICTURES=$(CURDIR)/.cache/screenshots $(GO) test -pgo=off -count=1 -timeout 10m -run '^TestBrowserPages$$' ./cmd/promptgate

clean:
	rm -rf bin .cache
