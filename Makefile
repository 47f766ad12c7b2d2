# Every target does its own set-up in a local .venv: nothing but Python 3.10+ and make is needed.
# uv makes the set-up quicker when it can be had; pip does the same without it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test check generate bench docs clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "mongopatterns needs Python 3.10 or newer; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made: install the venv module (on Debian: apt-get install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv || echo "uv is not available; using pip"

# install EXTRAS-AND-GROUPS: with uv where it works, else with pip.
install = if command -v uv >/dev/null && uv pip install --quiet --python $(BIN)/python $(1); then :; else $(BIN)/python -m pip install --quiet $(1); fi

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@$(call install,-e '.[demo]')
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(call install,-e '.[demo]' --group dev)
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## Run the scenarios on a real replica set and print the table
	@mongopatterns demo $(ARGS)

test: $(VENV)/.dev  ## Run the whole suite on a real server
	@coverage erase
	@coverage run -m pytest $(ARGS)
	@coverage combine --quiet && coverage report

check: $(VENV)/.dev  ## Lint, types, generated files, purity, exports, typed API
	ruff check .
	ruff format --check .
	python tools/generate_sync.py --check
	mypy
	basedpyright
	pytest -q -p no:randomly tests/plan/test_purity.py tests/plan/test_exports.py tests/typed

generate: $(VENV)/.dev  ## Write the synchronous twins from the asynchronous sources
	python tools/generate_sync.py

bench: $(VENV)/.dev  ## Measure ratios in one run and write the benchmark page
	python -m benchmarks $(ARGS)

docs: $(VENV)/.dev  ## Build the documentation, strictly
	mkdocs build --strict

clean:  ## Remove the environment and what the tools left
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
