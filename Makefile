# Two commands do everything on a machine that has only Python: `make demo` and `make test`.
# PYTHON chooses the interpreter, VENV the folder of the environment, PYTEST_ARGS is handed to pytest.

PYTHON ?= python3
VENV ?= .venv
# Tests are independent of each other: one process a core, eight at most, since each of them imports torch.
PYTEST_ARGS ?= -n auto --maxprocesses 8
BIN := $(VENV)/bin

# Threads that wait must not burn the cores that others compute on; read when torch is loaded.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint types check docs format clean help

help:
	@echo "make demo    install into $(VENV), then train, price and code on the bundled photographs"
	@echo "make test    install with development tools, then lint, check types and imports, run all tests"
	@echo "make check   the same without the slow tests"
	@echo "make docs    build the documentation site into site/"
	@echo "make format  rewrite the sources in the project's style"
	@echo "make clean   remove $(VENV) and caches"

# torch is named in the same call as the package and pinned by constraints.txt, so that pip settles on one build of it.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 --editable .
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 --editable '.[dev]'
	touch $@

demo: $(BIN)/.installed
	$(BIN)/zoo bench --suite demo

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(BIN)/.installed-dev
	$(BIN)/mypy

check: lint types
	$(BIN)/python -m pytest -m "not slow and not night and not official and not gpu" $(PYTEST_ARGS)

test: lint types
	$(BIN)/python -m pytest -m "not night and not official and not gpu" $(PYTEST_ARGS)

$(BIN)/.installed-docs: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 --editable '.[docs]'
	touch $@

docs: $(BIN)/.installed-docs
	$(BIN)/mkdocs build --strict

format: $(BIN)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist site
