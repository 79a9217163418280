.DEFAULT_GOAL := help

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ARCHS   ?= amd64 arm64
IMAGE   ?= fusillade:dev
FUZZTIME ?= 20s

# Without the directory of the checkout in them, what was compiled in one serves all
# others, and 'make build', the linters and the tests share it.
export GOFLAGS := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)

MODULE  := $(shell sed -n 's/^module //p' go.mod)

# The version is stamped by the linker, so the build needs no version control.
BUILD := CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath \
	-ldflags '-s -w -X $(MODULE)/internal/daemon.Version=$(VERSION)'

# The race detector needs a C compiler.
RACE := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
# Its runtime waits for a second at the end of each process, for races of
# goroutines that go on. No test leaves one.
export GORACE ?= atexit_sleep_ms=0
# 'make lint' vets; go test would do it again for each test binary.
# Two packages more than there are processors, for their tests also wait. Those that
# take long begin first, and the short ones fill what is left.
PACKAGES := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
LONGEST := ./e2e ./internal/consume ./internal/app ./cmd/fusillade ./internal/postgres ./internal/api ./internal/ui .
# A test process is short: it may use memory rather than collect it.
GOGC ?= 400
# What one goroutine computes for long, the race detector only slows down: these
# packages run a second time without it, and play more cases. Without C too, as the
# commands are built: what e2e builds is compiled for both.
UNRACED := ./internal/adaptive ./internal/mock ./internal/protocol ./internal/rate
# Debuggers want what -w leaves out, which takes a third of linking; traces and the
# race detector's reports do without.
TEST := $(GO) test -json $(RACE) -vet=off -shuffle=on -timeout 10m -p $(PACKAGES) -ldflags=-w
# Of each skipped test a line is printed at the end. SKIPS=-refuse: to skip another than
# the listed ones is a failure.
LISTSKIPPED := build/listskipped $(SKIPS) -allowed internal/testenv/listskipped/allowed.txt

# Where the common systems keep their certificate authorities.
CERTS := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))

.PHONY: help build demo test check chaos neighbours rates mutations model bench bench-compare bench-others bench-submit scaling upgrade postgres-versions fuzz lint readme charts kube compose dashboards vulncheck sbom reproducible dist image images images-layout boms module-path clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the commands into build/
	@mkdir -p build
	$(BUILD) -o build/ ./cmd/...

# ANSWERS shortens lines of results to the custom id and the answer.
ANSWERS = sed -E 's/.*"custom_id":"([^"]*)".*"content":"(([^"\\]|\\.)*)".*/    \1: \2/'

# Postgres refuses to run as root. Where we are root it runs as another user,
# who must be able to enter the data directory, wherever this checkout is.
demo: build ## Run examples/requests.jsonl against a mock model endpoint
	@data=build/demo; \
	if [ "$$(id -u)" = 0 ]; then \
		data=$$(mktemp -d) && chmod 755 "$$data" && trap 'rm -rf "$$data"' EXIT INT TERM; \
	fi; \
	set -- build/fusillade run -i examples/requests.jsonl -o build/results.jsonl --mock --again --data-dir "$$data"; \
	echo "$$*"; "$$@" || exit; \
	echo; echo "The first answers in build/results.jsonl:"; head -n 3 build/results.jsonl | $(ANSWERS)

test: ## Run all tests, with the race detector, on real Postgres and NATS
	@test -n "$(RACE)" || echo "no C compiler was found: testing without the race detector"
	@mkdir -p build
	$(GO) build $(RACE) -o build/ ./internal/testenv/withpostgres ./internal/testenv/listskipped
	GOGC=$(GOGC) build/withpostgres $(LISTSKIPPED) $(TEST) $(LONGEST) ./...
	CGO_ENABLED=0 $(GO) test -short -vet=off -shuffle=on $(UNRACED)

check: lint ## Run what each commit should pass: linters, and the tests that need no Postgres
	$(GO) vet -tags chaos,neighbours,rates,scaling,upgrade ./e2e/...
	$(GO) vet -tags failpoint ./internal/failpoint
	$(GO) test -short -vet=off ./...

# The choices follow CHAOS_SEED, which is printed; RUN=PATTERN plays some faults.
chaos: ## Break a cluster of real processes in every way, and check it (minutes)
	CHAOS_BUILD=$(RACE) $(GO) test -tags chaos -count=1 -v -timeout 20m -parallel 3 -run '$(or $(value RUN),.)' ./e2e/chaos

rates: ## Hold rate limits to their promise for MINUTES (10), on a cluster of real processes
	RATES_MINUTES=$(MINUTES) $(GO) test -tags rates -count=1 -v -timeout 75m ./e2e/rates

neighbours: ## Have owners hurt others, on a cluster of real processes, and measure it
	$(GO) test -tags neighbours -count=1 -v -timeout 20m -run '$(or $(value RUN),.)' ./e2e/neighbours

mutations: ## Take the fence apart, one condition at a time: a test must fail each time
	$(GO) test -count=1 -v -timeout 30m -run '^TestMutations$$' ./e2e/mutations -mutate

# UPDATE=1 writes what was found into docs/design.md.
model: ## Explore every state of the models of the protocol and of slots (minutes)
	$(GO) test -count=1 -v -timeout 30m -run '^Test(EveryState|Mutants)$$' ./internal/protocol -full $(if $(UPDATE),-update)
	$(GO) test -count=1 -v -timeout 10m -run '^TestEveryStateOfSharing$$' ./internal/slots

bench: build ## Measure the pipeline on this machine, in a minute
	build/fusillade bench --requests 5000

# ARGS go to fusillade bench; BENCH=PATTERN compares Go benchmarks of IN=PACKAGES instead.
RUNS ?= 5
bench-compare: ## Measure revision BASE and this checkout in turn, and compare the medians
	@test -n "$(BASE)" || { echo 'say what to compare with: make bench-compare BASE=main~10'; exit 2; }
	$(GO) run -C tools/benchcompare . -base '$(BASE)' -runs $(RUNS) $(if $(BENCH),-bench '$(BENCH)') $(if $(IN),-packages '$(IN)') -- $(ARGS)

bench-others: build ## Measure what people use instead on the same mock endpoint, in turn
	python3 bench/others.py --rounds $(RUNS) $(ARGS)

# River's table is in an empty database of its own, DATABASE.
bench-submit: ## Measure submits in transactions, and River's inserts into the empty database DATABASE
	@test -n "$(DATABASE)" || { echo 'say where River inserts: make bench-submit DATABASE=postgres://…'; exit 2; }
	$(GO) test -run '^$$' -bench 'SubmitTx' -benchtime 1500x .
	$(GO) run -C bench/river . -database '$(DATABASE)' -inserts 1500 -clients 1
	$(GO) run -C bench/river . -database '$(DATABASE)' -inserts 1500 -clients 8

# UPDATE=1 keeps costs and runs for `go run ./bench/scaling` and, by `make readme`, docs/scaling.md.
scaling: ## Measure what a request costs each process, and hold predictions to it
	$(GO) test -tags scaling -count=1 -v -timeout 20m ./e2e/scaling $(if $(UPDATE),-args -update)

upgrade: ## Have programs of the release before work with these, on the new schema
	$(GO) test -tags upgrade -count=1 -v -timeout 15m ./e2e/upgrade

# The oldest that docs/operations.md names, and the newest that is out.
POSTGRES_VERSIONS ?= 14 18
postgres-versions: ## Run the tests of all SQL and of the migrations on Postgres 14 and 18
	@mkdir -p build
	$(GO) build -o build/withpostgres ./internal/testenv/withpostgres
	@for version in $(POSTGRES_VERSIONS); do \
		FUSILLADE_TEST_DATABASE_URL= FUSILLADE_TEST_POSTGRES_VERSION=$$version \
			build/withpostgres $(GO) test -vet=off -count=1 ./internal/postgres ./internal/pgconnect ./migrations || exit 1; \
	done

fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | \
	sed -E 's|^(.*)/[^/]*:[0-9]+:func (.*)$$|\1 \2|' | \
	while read -r package target; do \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

lint: build/golangci-lint ## Run the linters, and look for retired words and dead links
	build/golangci-lint run --allow-parallel-runners ./...
	$(GO) test -short -vet=off ./docs

build/golangci-lint: tools/go.mod tools/go.sum
	$(GO) build -C tools -buildvcs=false -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

readme: ## Refresh the tables of settings, reasons, metrics and behaviors in docs/
	$(GO) test ./internal/batch -run '^TestReasonsInDocuments$$' -update
	$(GO) test ./internal/config -run '^TestConfigurationTable$$' -update
	$(GO) test ./internal/app -run '^TestMetricsTable$$' -update
	$(GO) test ./internal/mock -run '^TestBehaviorsTable$$' -update
	$(GO) test ./bench/scaling -run '^TestDocument$$' -update

charts: ## Check the Helm chart with helm's engine and the types of Kubernetes
	$(GO) test -C tools/kubernetes -vet=off -count=1 ./...

# The server tells its version, which the linker stamps.
KUBERNETES = $(shell sed -n 's|.*k8s.io/kubernetes v|v|p' tools/kube/go.mod)
kube: ## Apply the chart and the Kustomize base to a real API server (compiles for long, once)
	$(GO) test -C tools/kube -vet=off -count=1 -timeout 20m -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES)' ./...

compose: ## Check compose.yaml and what it mounts with Compose's own loader
	$(GO) test -C tools/compose -vet=off -count=1 ./...

# -count=1 here and above: what go remembers of a test leaves out files of other
# modules.
dashboards: ## Check dashboards and alerts: each query, by Prometheus's engine, over a real run
	$(GO) test -C tools/monitoring -vet=off -count=1 ./...

build/govulncheck build/cyclonedx-gomod: tools/security/go.mod tools/security/go.sum
	$(GO) build -C tools/security -buildvcs=false -o ../../build/ golang.org/x/vuln/cmd/govulncheck github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

vulncheck: build/govulncheck ## Look for known weaknesses in what the commands reach
	build/govulncheck ./cmd/...

sbom: build build/cyclonedx-gomod ## List the modules in each command, as CycloneDX, in build/
	@for command in api consumer dispatcher fusillade; do \
		build/cyclonedx-gomod bin -json -output build/$$command.cdx.json -version $(VERSION) build/$$command || exit 1; \
	done

reproducible: ## Build everything twice, in two places, and compare
	@set -e; for copy in a b; do \
		rm -rf build/reproducible/$$copy && mkdir -p build/reproducible/$$copy/src; \
		git archive HEAD | tar -x -C build/reproducible/$$copy/src; \
		$(MAKE) -s -C build/reproducible/$$copy/src dist VERSION=$(VERSION) GO="env GOCACHE=$(CURDIR)/build/reproducible/$$copy/cache $(GO)"; \
		$(MAKE) -s -C build/reproducible/$$copy/src boms images-layout VERSION=$(VERSION); \
	done; \
	diff -r --exclude=cyclonedx-gomod --exclude=govulncheck build/reproducible/a/src/build build/reproducible/b/src/build && \
	(cd build/reproducible/a/src/build && sha256sum linux-*/bin/* image/index.json); \
	rm -rf build/reproducible

dist: ## Cross-build static binaries into build/linux-ARCH/
	@test -n "$(CERTS)" || { echo "no certificate authorities were found; set CERTS=FILE" >&2; exit 1; }
	@for arch in $(ARCHS); do \
		echo "build/linux-$$arch"; \
		mkdir -p build/linux-$$arch/bin && cp "$(CERTS)" build/linux-$$arch/ca-certificates.crt && \
		GOOS=linux GOARCH=$$arch $(BUILD) -o build/linux-$$arch/bin/ ./cmd/... || exit 1; \
	done

# As an OCI layout, with lists of the modules attached.
images: dist boms images-layout ## Write reproducible images for all of ARCHS into build/image/

boms: build/cyclonedx-gomod
	@for arch in $(ARCHS); do for program in build/linux-$$arch/bin/*; do \
		build/cyclonedx-gomod bin -json -noserial -notimestamp -version $(VERSION) \
			-output build/linux-$$arch/$$(basename $$program).cdx.json $$program || exit 1; \
	done; done

images-layout:
	$(GO) run -C tools/image . -dist '$(CURDIR)/build' -arches '$(ARCHS)' -version '$(VERSION)' -out '$(CURDIR)/build/image'

image: ## Build the container image fusillade:dev, by Docker
	$(MAKE) dist ARCHS=$$($(GO) env GOARCH)
	docker build --build-arg DIST=build/linux-$$($(GO) env GOARCH) --tag $(IMAGE) .

# PATH would be that of the shell, in every recipe.
module-path: ## Give the module another path: TO=example.com/you/fusillade
	@test -n "$(TO)" || { echo 'say the new path: make module-path TO=example.com/you/fusillade'; exit 2; }
	$(GO) run -C tools/modulepath . -root '$(CURDIR)' '$(TO)'
	gofmt -l -w $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')

clean: ## Remove build/
	rm -rf build
