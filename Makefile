# riverwatch: every step installs what it needs, once.
PYTHON ?= python3
RUN    := .venv/bin
INSTALL = $(RUN)/python -m pip install --quiet --disable-pip-version-check
SHELL  := /bin/bash
.DEFAULT_GOAL := help
# Two workers; one has all tests that need a Kafka, and they come first (tests/conftest.py).
SIDE   := -n 2 --dist loadgroup --no-loadscope-reorder
.PHONY: help demo test check coverage lint types format hooks lock bench faults clean compiled

##@ Begin
help: ## list what can be made
	@awk -F':.*## ' '/^##@ /{printf "%s%s\n", sep, substr($$0, 5); sep = "\n"} \
	  /^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# 9: a Python that runs and is too old; anything else but 0: one that does not run, and has said why
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(9 * (sys.version_info < (3, 11)))'; case $$? in 0) ;; \
	  9) echo "riverwatch needs Python 3.11 or newer, and '$(PYTHON)' is older: make PYTHON=python3.12 demo"; exit 1;; \
	  *) echo "'$(PYTHON)' cannot be started: name another Python (3.11 or newer), as in make PYTHON=python3.12 demo"; \
	     exit 1;; esac
	@$(PYTHON) -B -m infra.prerequisites
	@$(PYTHON) -m venv .venv || { echo "Python could not make .venv; what it says stands above"; rm -rf .venv; exit 1; }

.venv/.run: requirements-local.lock requirements-compile.lock pyproject.toml | .venv/bin/python
	@$(RUN)/python -B -m infra.prerequisites
	@echo "installing riverwatch into .venv (one to three minutes and 370 MB, once)"
	@$(INSTALL) --no-compile --require-hashes -r requirements-local.lock
	@$(INSTALL) --no-deps -e .
	@$(RUN)/python -m infra.trim
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.run
	@echo "installing the test tools into .venv (once)"
	@$(INSTALL) --no-compile --require-hashes -r requirements-dev.lock
	@touch $@

compiled: .venv/.run ## the arithmetic of events, compiled (needs a C compiler; done by what uses it)
	@$(RUN)/python -m infra.compiled_modules requirements-compile.lock

demo: compiled ## the whole system on this machine, about two minutes
	@$(RUN)/riverwatch demo

##@ Check
test: .venv/.dev compiled ## all tests
	@$(RUN)/python -m pytest $(SIDE) --durations 10 $(ARGS)

faults: .venv/.dev compiled ## a million events under faults, some 25 minutes (SEED=7, ARGS=...)
	@$(RUN)/python -m tests.faults.run $(if $(SEED),--seed $(SEED)) $(ARGS)
	@$(RUN)/python -m tests.faults.run --plan failover --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.run --plan cluster --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.run --plan empty --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.run --plan log --events 60000 --rate 1000 $(if $(SEED),--seed $(SEED))
	@$(RUN)/python -m tests.faults.load

lint: .venv/.dev ## style and form, as before each commit
	@$(RUN)/ruff check . && $(RUN)/ruff format --check .
	@$(RUN)/lint-imports --no-logo --no-cache

types: .venv/.dev ## the types (mypy strict)
	@$(RUN)/mypy

check: .venv/.dev ## lint, format, types and tests: what CI runs
	@$(MAKE) --no-print-directory -j 2 lint types compiled
	@$(MAKE) --no-print-directory test

coverage: .venv/.dev compiled ## the tests once more, with branch coverage (twice the time)
	@$(RUN)/python -m pytest $(SIDE) --cov --cov-report term $(ARGS)

##@ Measure
bench: .venv/.dev compiled ## what a score worker and the stores cost (some minutes; needs Java 17+ and Maven)
	@$(RUN)/python -m benchmarks.bench_store
	@$(RUN)/python -m benchmarks.bench_score

##@ Change
hooks: .venv/.dev ## have git run `make lint` before each commit
	@$(RUN)/pre-commit install

format: .venv/.dev ## put the code in its form
	@$(RUN)/ruff check --fix --quiet . ; $(RUN)/ruff format .

UV_LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: ## renew the locked dependencies (needs uv)
	$(UV_LOCK) --upgrade -o requirements.lock pyproject.toml
	$(UV_LOCK) --upgrade --extra local -c requirements.lock -o requirements-local.lock pyproject.toml
	$(UV_LOCK) --upgrade --group compile -c requirements.lock -o requirements-compile.lock
	$(UV_LOCK) --upgrade --extra local --extra dev -c requirements-local.lock -c requirements-compile.lock \
	  -o requirements-dev.lock pyproject.toml

clean: ## remove what was installed and built here
	rm -rf .venv .riverwatch infra/__compiled__ .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
