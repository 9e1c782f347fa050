# The handful of commands that people need. `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
IMAGESETS_DATA ?= data

.DEFAULT_GOAL := help
.PHONY: help run test check ui bench lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv ## build mnist and fashion_mnist into data/
	$(BIN)/python -m assets build mnist fashion_mnist

test: .venv ## run all tests
	$(BIN)/python -m pytest

check: .venv ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

ui: .venv ## open the Dagster UI on the same runs
	$(BIN)/python -m assets ui

bench: .venv ## measure speed and memory (set IMAGESETS_MIRROR to a folder)
	$(BIN)/python -m benchmarks.speed

lock: ## compile requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-strip-extras --no-emit-index-url --no-annotate --no-header \
	  --output-file requirements.lock

clean: ## remove the environment, caches and everything made under data/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis "$(IMAGESETS_DATA)"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Exactly the locked packages, each checked against its hash, and compiled to bytecode: without
# that, importing Dagster takes three times as long.
.venv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	  --requirement requirements.lock
	$(BIN)/python -m compileall -q $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') >/dev/null || true
	@touch .venv
