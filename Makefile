# Two commands are enough: `make run` and `make test`. Both set up .venv first, and are quick the second time.

BIN := .venv/bin
READY := .venv/.ready
RECIPE ?= quickstart
BENCH ?= cli
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test lint lock bench clean

help:
	@echo 'make run    set up, then run a recipe   RECIPE=quickstart  ARGS="--set distill.epochs=3"'
	@echo 'make test   set up, then run the tests  ARGS="tests/ci -k budget"'
	@echo 'make setup  make .venv from requirements.lock'
	@echo 'make lint   ruff and mypy'
	@echo 'make lock   write the versions in .venv to requirements.lock'
	@echo 'make bench  run a benchmark             BENCH=cli|host|evaluation  ARGS=...'
	@echo 'make clean  remove .venv, caches and build outputs; the store .earshot stays'

setup: $(READY)
	@echo 'ready: .venv/bin/earshot'

# torch goes first: it is the largest download and the one whose version all others must fit.
$(READY): pyproject.toml requirements.lock
	@python=$$(.ci/tools) && { $(BIN)/pip --version >/dev/null 2>&1 || "$$python" -m venv --clear .venv; }
	$(BIN)/pip install --constraint requirements.lock torch
	$(BIN)/pip install --constraint requirements.lock --editable '.[dev]'
	@touch $@

run: $(READY)
	$(BIN)/earshot run $(RECIPE) $(ARGS)

test: $(READY)
	$(BIN)/pytest $(ARGS)

# mypy needs a folder that is called like the package: the package's root is the repository's, whatever its name.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .venv/typing && ln -sfn ../.. .venv/typing/earshot
	$(BIN)/mypy

lock: $(READY)
	$(BIN)/pip check
	$(BIN)/pip freeze --all --exclude-editable --exclude pip > .venv/frozen
	@{ echo '# Every version that setup installs; made by: make lock'; sed 's/+.*//' .venv/frozen | LC_ALL=C sort -f; } \
	    > requirements.lock
	@touch $(READY)

bench: $(READY)
	$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
