# `make demo` and `make test` do everything on a machine with Python and make.

PYTHON ?= python3
PYTHON_NEWEST ?= python3.12
VENV ?= .venv
PIP_VERSION := 26.3
UV_VERSION := 0.13.9
BIN := $(VENV)/bin
LOCKED := --constraint constraints.txt --build-constraint constraints.txt
# Compiling takes most of the time, on one core. The tests of a file share what they have trained and compiled.
IN_TWO_PROCESSES := --numprocesses 2 --dist loadfile

.PHONY: demo test test-newest bench lint format docs lock clean

demo: $(VENV)/installed
	$(BIN)/python examples/01_quickstart.py

# Everything that CI runs.
test: lint docs
	$(BIN)/python -m pytest $(IN_TWO_PROCESSES)

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# How fast and lean the library is, beside its peers: a verdict for each row. PyTorch is installed for it.
bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet $(LOCKED) --editable . --group bench
	$(BIN)/python -m benchmarks.performance

format: $(VENV)/installed-for-tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The tests against the newest releases of all dependencies, whatever the lock says.
test-newest:
	$(MAKE) $(VENV)-newest/installed-for-tests PYTHON=$(PYTHON_NEWEST) VENV=$(VENV)-newest LOCKED=
	$(VENV)-newest/bin/python -m pytest $(IN_TWO_PROCESSES)

docs: $(VENV)/installed-for-docs
	$(BIN)/sphinx-build -W --keep-going docs docs/_build

# Pin every dependency, for every supported Python, to today's newest release.
lock: $(BIN)/python
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --group dev --group build pyproject.toml \
		--upgrade --no-annotate --no-emit-index-url --custom-compile-command "make lock" --output-file constraints.txt

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dgex needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==$(PIP_VERSION)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(LOCKED) --editable .
	touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/python -m pip install --quiet $(LOCKED) --editable . --group test --group lint
	touch $@

$(VENV)/installed-for-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet $(LOCKED) --editable . --group docs
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-newest docs/_build
