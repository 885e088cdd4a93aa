# riverwatch: every step installs what it needs, once.
PYTHON ?= python3
RUN    := .venv/bin
SHELL  := /bin/bash
.DEFAULT_GOAL := help
# Two workers; one has all tests that need a Kafka, and they come first (tests/conftest.py).
SIDE   := -n 2 --dist loadgroup --no-loadscope-reorder
.PHONY: help demo test check lint types format lock bench faults clean compiled

help: ## list what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "riverwatch needs Python 3.11 or newer, and '$(PYTHON)' is older: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  echo "Python's venv module is incomplete here (on Debian: apt install python3-venv)"; rm -rf .venv; exit 1; }

.venv/.run: requirements.lock pyproject.toml | .venv/bin/python
	@echo "installing riverwatch into .venv (about a minute, once)"
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.run
	@echo "installing the test tools into .venv (once)"
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

compiled: .venv/.run
	@$(RUN)/python -m infra.compiled_modules

demo: compiled ## the whole system on this machine, about two minutes
	@$(RUN)/riverwatch demo

test: .venv/.dev compiled ## all tests
	@$(RUN)/python -m pytest $(SIDE) --durations 10 $(ARGS)

faults: .venv/.dev compiled ## a million events under faults, some 25 minutes (SEED=7, ARGS=...)
	@$(RUN)/python -m tests.faults.run $(if $(SEED),--seed $(SEED)) $(ARGS)
	@$(RUN)/python -m tests.faults.run --plan failover --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.run --plan cluster --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.run --plan empty --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.load

lint: .venv/.dev
	@$(RUN)/ruff check . && $(RUN)/ruff format --check .

types: .venv/.dev
	@$(RUN)/mypy

check: .venv/.dev ## lint, format, types, tests and their coverage: what CI runs
	@$(MAKE) --no-print-directory -j 2 lint types compiled
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report term $(ARGS)"

format: .venv/.dev ## put the code in its form
	@$(RUN)/ruff check --fix --quiet . ; $(RUN)/ruff format .

lock: ## renew the locked dependencies (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra compile --upgrade -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

bench: .venv/.dev compiled ## what a score worker and the stores cost (some minutes; needs Java 17+ and Maven)
	@$(RUN)/python -m benchmarks.bench_store
	@$(RUN)/python -m benchmarks.bench_score

clean: ## remove what was installed and built here
	rm -rf .venv .riverwatch infra/__compiled__ .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
