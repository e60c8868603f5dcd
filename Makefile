# keyleaf: `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CUTS ?= 100000
KILLS ?= 500
FLOWS ?= 100

.DEFAULT_GOAL := help
.PHONY: help up test lint format bench crash hostile conformance mutants fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/run.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "keyleaf needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment (on Debian: apt install python3-venv)"; exit 1; }
	@echo "building $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "adding what the tests need (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

up: $(VENV)/run.stamp ## run the example tree: live view, Ctrl-C ends it; ARGS=--once converges, proves it and exits
	@$(BIN)/keyleaf up examples/shop $(ARGS)

test: $(VENV)/dev.stamp ## run all tests, on all cores; ARGS goes to pytest
	@$(BIN)/python -m pytest -q -n auto --dist loadfile $(ARGS)

lint: $(VENV)/dev.stamp ## format check, lint, types, import contracts
	$(BIN)/ruff format --check src tests bench crash examples conformance hostile
	$(BIN)/ruff check src tests bench crash examples conformance hostile
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## format the code
	$(BIN)/ruff format src tests bench crash examples conformance hostile
	$(BIN)/ruff check --fix src tests bench crash examples conformance hostile

bench: $(VENV)/dev.stamp ## measure, beside a ceiling in the same run; writes bench/results/
	$(BIN)/python -m bench $(ARGS)

crash: $(VENV)/dev.stamp ## power cuts and kill -9, the long run (CUTS=100000 KILLS=500 FLOWS=100)
	$(BIN)/python -m crash --cuts $(CUTS) --kills $(KILLS) --flows $(FLOWS)

hostile: $(VENV)/dev.stamp ## activities that try to carry secrets out, 1,000 on each engine, and a byte search for them
	$(BIN)/python -m hostile $(ARGS)

conformance: $(VENV)/dev.stamp ## run the Azure SDKs' own test suites, unmodified, against keyleaf
	$(BIN)/python -m conformance $(ARGS)

mutants: $(VENV)/dev.stamp ## seed known faults into the server and show that the contract tests catch each
	$(BIN)/python -m conformance.mutants $(ARGS)

fuzz: $(VENV)/dev.stamp ## malformed and hostile requests, the long run
	$(BIN)/python -m conformance.fuzz $(ARGS)

clean: ## remove the environment and caches (not the state in .keyleaf)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
