# CPython 3.11 or newer, pip and make are all this needs; nothing outside this folder is changed.

PYTHON ?= python3
PORT ?= 8100
# Root's home is closed to the account that PostgreSQL then runs as, and so is a checkout inside it.
CLOSED = $(shell d='$(CURDIR)'; while [ "$$d" != / ]; do find "$$d" -maxdepth 0 ! -perm -001; d=$$(dirname "$$d"); done)
DATA ?= $(if $(and $(filter 0,$(shell id -u)),$(CLOSED)),/var/lib/speedsms-demo,.data)
READY ?=
VECTORS ?= tests/wire/vectors
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-wire faults check bench docs lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r name text; \
		do printf '  make %-10s %s\n' "$$name" "$$text"; done

run: $(VENV)/gateway ## start the whole gateway with its own PostgreSQL and the simulator (PORT=8100 DATA=.data READY=file)
	@echo 'data in $(DATA)'
	@SPEEDSMS_HTTP_PORT=$(PORT) SPEEDSMS_DATA_DIR=$(abspath $(DATA)) \
		exec $(BIN)/speedsms serve --demo $(if $(READY),--ready-file $(abspath $(READY)))

test: $(VENV)/dev ## all tests; those that kill processes come last, alone (ARGS=… goes to pytest)
	$(BIN)/pytest -n auto -m 'not faults' $(ARGS)
	$(BIN)/pytest -m faults -p no:randomly $(ARGS)

test-fast: $(VENV)/dev ## rules, style, documentation: seconds, and no database
	$(BIN)/pytest -m 'not slow' tests/rules tests/test_*.py $(ARGS)

test-wire: $(VENV)/dev ## the golden vectors against the running application (VECTORS=folder)
	$(BIN)/pytest tests/wire --vectors=$(VECTORS) $(ARGS)

faults: $(VENV)/dev ## the full count of kills and crash points; writes the figures of docs/reliability.md
	SPEEDSMS_FAULTS=full $(BIN)/pytest -m faults -p no:randomly --timeout=0 $(ARGS)

check: $(VENV)/dev ## formatting, lint, types, import contracts, tidiness, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_*.py
	$(BIN)/lint-imports

bench: $(VENV)/dev ## measure speed on this machine; writes docs/benchmarks.md (needs gcc and wrk; ARGS=--quick)
	$(BIN)/python bench/run.py $(ARGS)

docs: $(VENV)/dev ## write the generated pages of docs/
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/lifecycle.py

# The lock itself is not kept: it would name package hosts. What it says is exported with hashes.
lock: $(VENV)/base ## choose the newest fitting versions of everything and write requirements/
	$(UV) pip compile --quiet --universal --upgrade $(EXPORT) --generate-hashes -o requirements/build.txt requirements/build.in
	$(UV) lock --quiet --upgrade --python $(BIN)/python
	$(UV) export --quiet --frozen --no-emit-project $(EXPORT) --no-dev --extra gateway -o requirements/gateway.txt
	$(UV) export --quiet --frozen --no-emit-project $(EXPORT) --extra gateway -o requirements/dev.txt
	$(UV) export --quiet --frozen --no-emit-project $(EXPORT) --no-dev --group test -o requirements/sdk.txt
	rm uv.lock
EXPORT := --no-header --no-annotate

clean: ## remove the environment and all caches; the data stays
	rm -rf $(VENV) .cache .hypothesis .*_cache build dist

$(VENV)/base: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"speedsms needs CPython 3.11 or newer and $(PYTHON) is not: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@

$(VENV)/gateway $(VENV)/dev: $(VENV)/%: requirements/%.txt pyproject.toml $(VENV)/base
	$(INSTALL) --require-hashes -r $<
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
