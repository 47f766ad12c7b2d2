# Every target does its own set-up in a local .venv: nothing but Python 3.10+ and make is needed.
# uv makes the set-up quicker when it can be had; pip does the same without it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo app test check generate bench docs clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

# The environment itself, complete with a recent pip: one that was left half-made is made anew.
$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "mongopatterns needs Python 3.10 or newer; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made: install the venv module (on Debian: apt-get install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv || echo "uv is not available; using pip"
	@touch $@

# install EXTRAS-AND-GROUPS: with uv where it works, else with pip.
install = if command -v uv >/dev/null && uv pip install --quiet --python $(BIN)/python $(1); then :; else $(BIN)/python -m pip install --quiet $(1); fi

$(VENV)/.demo: pyproject.toml | $(VENV)/.base
	@$(call install,-e '.[demo]')
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.base
	@$(call install,-e '.[demo]' --group dev)
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## Run the scenarios on a real replica set and print the table
	@$(BIN)/python -m mongopatterns demo $(ARGS)

app: $(VENV)/.dev  ## Run an application of examples/, with a server of its own: make app NAME=live_quotas
	@$(BIN)/python -m examples $(NAME)

test: $(VENV)/.dev  ## Run the whole suite on a real server
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report

check: $(VENV)/.dev  ## Lint, types, generated files, purity, exports, typed API
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tools/generate_sync.py --check
	$(BIN)/python -m mypy
	$(BIN)/python -m basedpyright
	$(BIN)/python -m basedpyright --verifytypes mongopatterns --ignoreexternal
	$(BIN)/python -m pytest -q -p no:randomly tests/plan/test_purity.py tests/plan/test_exports.py tests/typed

generate: $(VENV)/.dev  ## Write the synchronous twins from the asynchronous sources
	$(BIN)/python tools/generate_sync.py

bench: $(VENV)/.dev  ## Measure ratios in one run and write the benchmark page
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev  ## Build the documentation, strictly
	$(BIN)/python -m mkdocs build --strict

clean:  ## Remove the environment and what the tools left
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
