# Needs Python 3.11 or later (with venv) and make; everything else is installed into .venv from pyproject.toml.
# PYTHON names the interpreter that makes the environment: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# Tools keep their caches inside .venv, so that no target but fix changes a file of the worktree.
CACHE := $(CURDIR)/.venv/cache
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
PYTEST := $(BIN)/pytest -o cache_dir=$(CACHE)/pytest

.PHONY: help .venv run demo test sim mutants lint verify fix bench jepsen clean

help:  ## what each target does
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv: $(INSTALLED)  ## the virtual environment, made again when pyproject.toml changes

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "artemis needs Python 3.11 or later: " + sys.version)'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(INSTALLED)  ## a three-node cluster on loopback in the foreground, data under .artemis/
	@exec $(BIN)/python -m tools.run

demo: $(INSTALLED)  ## the story of a killed leader, by itself, on its own ports
	@exec $(BIN)/python -m tools.demo

test: $(INSTALLED)  ## all tests; choose with ARGS="-k name"
	$(PYTEST) $(ARGS)

sim: $(INSTALLED)  ## fresh simulated runs on all cores for SECONDS (600), every crash of a script, what they met
	$(BIN)/python -m tests.simulation.soak --seconds $(or $(SECONDS),600) $(ARGS)

mutants: $(INSTALLED)  ## every planted bug and who finds it; one of them with ARGS="--only NAME"
	$(BIN)/python -m tests.simulation.mutants $(ARGS)

lint: $(INSTALLED)  ## style, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

verify: lint test  ## lint and test

fix: $(INSTALLED)  ## rewrite what the tools can: format, import order, generated pages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tools.reference --write

bench: $(INSTALLED)  ## compare with etcd on this machine (needs wrk; etcd if installed)
	$(BIN)/python -m benchmarks $(ARGS)

jepsen: $(INSTALLED)  ## real processes and faults, checked; ARGS="run --time 300", "leases", "watch", "powercut"
	PYTHONPATH=jepsen-lite $(BIN)/python -m jepsen_lite $(or $(ARGS),run)

clean:  ## the environment and every cache; keeps .artemis/ (data)
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
