# make demo: run the demo on a fresh machine.   make test: install what the tests need and run them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Tests of one file mostly share a worker, so that what its fixtures make is made once; idle ones take over
SIDE_BY_SIDE = --numprocesses logical --dist worksteal
# What a person's own settings must not change in a build
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo demo-conda test test-full check bench lint types clean

$(BIN)/stillrun: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/stillrun
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable . --group dev
	@touch $@

# The RO-Crate 1.1 context, which the validator would fetch, comes with a release of rocrate; azurite is Azure's own emulator
$(VENV)/.validators: pyproject.toml | $(BIN)/stillrun
	$(PYTHON) -m venv $(VENV)/validators
	$(BIN)/uv pip install --quiet --python $(VENV)/validators/bin/python --group validators
	$(BIN)/uv pip install --quiet --python $(VENV)/validators/bin/python --no-deps --target $(VENV)/validators/context rocrate==0.15.0
	! command -v npm || npm install --silent --no-fund --no-audit --prefix $(VENV)/validators/azure azurite@3.35.0
	@touch $@

demo: $(BIN)/stillrun
	@$(BIN)/python fixtures/demo/demo.py

demo-conda: $(VENV)/.dev
	@$(BIN)/python fixtures/demo/demo_conda.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-full: $(VENV)/.dev $(VENV)/.validators
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m ""

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy api/stillrun snapshot/stillrun_snapshot envs/stillrun_envs engine/stillrun_engine reports/stillrun_reports cli/stillrun_cli

check: lint types test

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
