# Every target does its own set-up in a local .venv: nothing but Python 3.10+ and make is needed.
# uv makes the set-up quicker when it can be had; pip does the same without it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Compiled modules are kept: the suite starts some hundred processes, and each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo app test coverage chaos check wheel oldest generate bench docs clean

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

# Tests wait for the server as much as they compute: four workers, each with a server of its own, keep two cores busy.
pytest := -m pytest --numprocesses=4 --dist=worksteal

# Their data is kept in memory where there is much of it, and programs may run there: no journal has to reach a disk.
memory := $(shell grep -qs ' /dev/shm [^ ]* [^ ]*noexec' /proc/mounts || df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8000000 { print "/dev/shm" }')
ifneq ($(memory),)
test coverage chaos: export TMPDIR ?= $(memory)
endif

test: $(VENV)/.dev  ## Run the whole suite on a real server
	@$(BIN)/python $(pytest) $(ARGS)

coverage: $(VENV)/.dev  ## The same, more slowly, with the lines of src that no test came to
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run $(pytest) $(ARGS)
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report

# Long runs of the mixed load, each of so many seconds in each flavour; the suite has a short one.
chaos: export CHAOS_SECONDS ?= 40
chaos: export CHAOS_SEEDS ?= 1 2 3
chaos: export CHAOS_PAGE ?= docs/explanation/faults.md
chaos: $(VENV)/.dev  ## Let members fall and replies be lost under load for minutes, and write the table of faults
	@$(BIN)/python -m pytest -m chaos tests/chaos $(ARGS)

check: $(VENV)/.dev  ## Lint, types, generated files, purity, exports, typed API
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tools/generate_sync.py --check
	$(BIN)/python -m mypy
	$(BIN)/python -m basedpyright
	$(BIN)/python -m basedpyright --verifytypes mongopatterns --ignoreexternal
	$(BIN)/python -m pytest -q -p no:randomly tests/plan/test_purity.py tests/plan/test_exports.py tests/typed

wheel: $(VENV)/.dev  ## Build, look at what was built, and run a part of the suite on the installed wheel (all: ARGS=tests)
	@$(BIN)/python tools/check_wheel.py --python "$(PYTHON)" $(ARGS)

oldest: $(VENV)/.dev  ## The same with the oldest dependencies that are allowed
	@$(BIN)/python tools/check_wheel.py --oldest --python "$(PYTHON)" $(ARGS)

generate: $(VENV)/.dev  ## Write the synchronous twins from the asynchronous sources
	$(BIN)/python tools/generate_sync.py

bench: $(VENV)/.dev  ## Measure ratios in one run and write the benchmark page
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev  ## Build the documentation, strictly
	$(BIN)/python -m mkdocs build --strict

clean:  ## Remove the environment and what the tools left
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
