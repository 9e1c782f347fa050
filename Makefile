# The handful of commands that people need. `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
# Not the folder itself: a broken install must not look finished.
READY := .venv/installed
DEVELOPED := .venv/developed
READERS := .venv-readers

.DEFAULT_GOAL := help
.PHONY: help run test test-quick test-wheel test-readers check ui bench bench-peers lock clean
# Empty is off: dozens of processes that tests start need not compile the same modules again.
export PYTHONDONTWRITEBYTECODE :=
# Tests of a file stay together, and share what they have built. Many wait for servers and other
# processes: two workers for each core keep it busy.
WORKERS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## build mnist and fashion_mnist into data/
	$(BIN)/python -m assets build mnist fashion_mnist

test: $(DEVELOPED) ## run all tests
	$(PYTEST)

test-quick: $(DEVELOPED) ## run what needs no build, no server and no other process
	$(PYTEST) -m 'not slow'

test-wheel: $(DEVELOPED) ## try the wheel in an empty environment of every Python there is
	IMAGESETS_TEST_REGISTRIES=1 $(BIN)/python -m pytest tests/api/test_interpreters.py \
	  -n auto --dist load

test-readers: $(DEVELOPED) $(READERS)/installed ## read every export with its real readers
	@echo "Small sets take about 4 minutes; the official ones, where IMAGESETS_MIRROR is set, several" \
	  "times as long, and 2 GB for that time."
	IMAGESETS_MIRROR="$(IMAGESETS_MIRROR)" $(READERS)/bin/python -m pytest tests/readers \
	  -c tests/readers/pytest.ini --rootdir . --confcutdir tests/readers -p no:cacheprovider

check: $(DEVELOPED) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

ui: $(READY) ## open the Dagster UI on the same runs (PORT=3000)
	$(BIN)/python -m assets ui $(if $(PORT),--port $(PORT))

bench: $(DEVELOPED) ## measure speed and memory (set IMAGESETS_MIRROR to a folder)
	$(BIN)/python -m benchmarks.speed

bench-peers: $(READERS)/installed ## measure the library beside its peers, as docs/library.md shows it
	$(READERS)/bin/python -m benchmarks.peers --markdown

# All name the same version of what several name.
LOCKED := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-strip-extras --no-emit-index-url --no-annotate --no-header
lock: ## compile the locks anew from pyproject.toml (needs uv)
	$(LOCKED) --group build --group ui --output-file requirements.lock
	$(LOCKED) --all-extras --group build --group ui --group postgres --group workers --group dev \
	  --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCKED) --extra s3 --group build --group ui --group postgres --group workers \
	  --group kubernetes --constraint requirements-dev.lock --output-file deploy/requirements.lock

clean: ## remove the environment and caches; data/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Exactly the locked packages, each held against its hash. pip compiles them to bytecode: without
# that, importing Dagster takes three times as long.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Imagesets needs Python 3.11 or newer: make PYTHON=python3.12 run"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --compile --no-deps \
	  --require-hashes --requirement requirements.lock
	@touch $@

# What developers need besides: all extras, and what tests and checks use.
$(DEVELOPED): $(READY) requirements-dev.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --compile --no-deps \
	  --require-hashes --requirement requirements-dev.lock
	@touch $@

# Other people's readers, in versions that go together; see requirements-readers.in for the two that
# are not in its lock. pip takes a torch without CUDA where it is offered one.
$(READERS)/installed: requirements-readers.lock tests/readers/python-mnist.lock
	@echo "The readers take 3.4 GB in $(READERS) and 3 minutes; more where torch comes with CUDA."
	$(PYTHON) -m venv --clear $(READERS)
	$(READERS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --require-hashes --requirement requirements-readers.lock
	$(READERS)/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	$(READERS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --require-hashes --requirement tests/readers/python-mnist.lock \
	  --target $(READERS)/python-mnist
	@touch $@
