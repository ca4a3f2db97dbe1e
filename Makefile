# Weir. `make help` says what there is; every target sets up what it needs first.

.DEFAULT_GOAL := help
SHELL := bash

# The Python that makes the environment: the newest that works, or `make up PYTHON=/path/to/python`.
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Only what has a hash in a lock file, and only wheels: building one would fetch a build backend without.
INSTALL := $(BIN)/pip install --disable-pip-version-check --require-hashes --only-binary :all:
# Universal: for every platform and Python; versions that are pinned stay unless UPGRADE says otherwise.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" $(UPGRADE)
# Four test files at a time: each mostly waits for brokers, engines and sessions of its own.
PYTEST_RUN := $(BIN)/pytest -q -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS=$$'\t' read -r name line; do printf '  make %-8s %s\n' "$$name" "$$line"; done

.PHONY: up
up: $(READY) java ## Start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/weir up

.PHONY: check
check: $(READY) lint ## Format, lint, strict types, unit and property tests
	$(PYTEST_RUN) tests/unit tests/property $(PYTEST)

.PHONY: test
test: $(READY) java ## Every test: unit, property, contract, system (PYTEST="-k dedup" chooses)
	$(PYTEST_RUN) $(PYTEST)

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(READY) java ## Measure each stage and the whole chain on this machine
	$(BIN)/python -m tests.bench $(BENCH)

.PHONY: drill
drill: $(READY) java ## Break a running Weir for 40 minutes and count every event (DRILL="--only killed")
	$(BIN)/python -m tests.drill $(DRILL)

.PHONY: fuzz
fuzz: $(READY) java ## Send malformed and hostile requests to a running Weir for 15 minutes (FUZZ="--minutes 5")
	$(BIN)/python -m tests.fuzz $(FUZZ)

.PHONY: nightly
nightly: ## Every test with all examples and full sizes, then drill and fuzz: two hours
	HYPOTHESIS_PROFILE=nightly $(MAKE) lint test
	$(MAKE) drill
	$(MAKE) fuzz

.PHONY: docs
docs: $(READY) ## Write docs/settings.md from the code
	@{ printf '# Settings\n\nEnvironment variables, read once at start. `weir settings` prints the same; `make docs` writes this page.\n\n'; $(BIN)/weir settings --markdown; } > docs/settings.md

.PHONY: lock
lock: $(READY) ## Update the lock files (UPGRADE="--upgrade", UPGRADE="--upgrade-package aiohttp")
	@$(LOCK) pyproject.toml --extra build --extra dev -o requirements-dev.txt
	@$(LOCK) pyproject.toml --extra build -c requirements-dev.txt -o requirements.txt
	@$(LOCK) --no-deps tests/clients/requirements.in -o tests/clients/requirements.txt
	@$(BIN)/python -m weir.embedded.kafka.kafka_download

.PHONY: clean
clean: ## Remove the environment, caches and what `make up` kept in .weir
	@if [ -e .weir/up.json ]; then echo "weir up has .weir open, or was killed: end it first, then: rm .weir/up.json"; exit 1; fi
	rm -rf $(VENV) .weir .mypy_cache .ruff_cache .pytest_cache .hypothesis fuzz-failures build dist *.egg-info bench-*.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment: exactly the pinned versions, made again only when they change.
$(READY): pyproject.toml requirements-dev.txt tests/clients/requirements.txt
	@if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  rm -rf $(VENV); \
	  for python in $(PYTHONS) none; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; \
	  if [ "$$python" = none ]; then \
	    echo "Weir needs Python 3.11 or newer: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; fi; \
	  if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)"; exit 1; fi; \
	  echo "Making $(VENV) with $$("$$python" --version) ..."; \
	  "$$python" -m venv $(VENV) || exit 1; fi
	@echo "Installing the pinned dependencies; the first time this downloads some 300 MB ..."
	@$(INSTALL) -r requirements-dev.txt
	@$(INSTALL) --quiet --no-deps --upgrade --target $(VENV)/clients -r tests/clients/requirements.txt
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# What the embedded broker needs; `weir up` looks again, and says the same.
.PHONY: java
java: $(READY)
	@[ -n "$$WEIR_KAFKA_BOOTSTRAP" ] || $(BIN)/python -m weir.embedded.kafka.requirements
