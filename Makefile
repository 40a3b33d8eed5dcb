# The one thing these commands need is a Python with venv: `make test PYTHON=python3.13`.
PYTHON ?= python3
# More for tox: `make test TOX_ARGS="-e py313-django61"`.
TOX_ARGS ?=

# pyenv finds pythonX.Y only among the versions that it is told to use: all that we support.
ifndef PYENV_VERSION
export PYENV_VERSION := $(shell pyenv versions --bare 2>/dev/null \
	| grep -E '^3\.1[1-4]\.[0-9]+$$' | sort -rV | paste -sd: -)
endif

TOX = .venv/bin/python -m tox

.PHONY: help bench test lint docs dev demo clean
.DEFAULT_GOAL := help

help:
	@echo "make test    run everything that CI runs: all tests, the wheel, lint, types, coverage"
	@echo "make lint    run the linter and the type checker"
	@echo "make docs    make the site of docs/, in build/docs"
	@echo "make bench   measure against the peers, into docs/performance.md; takes twelve minutes"
	@echo "make dev     put the package and all its tools into .venv, to work on the code"
	@echo "make demo    start the example site, a small book shop"
	@echo "make clean   remove everything that these commands left behind"

test: .venv/bin/tox
	$(TOX) run-parallel --parallel auto --parallel-no-spinner $(TOX_ARGS)

lint: .venv/bin/tox
	$(TOX) run -e lint,types

docs: .venv/bin/tox
	$(TOX) run -e docs

bench: dev
	.venv/bin/python benchmarks --write

# The pip that comes with an older Python knows no dependency groups.
dev: .venv/bin/tox
	.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv/bin/python -m pip install --quiet --editable . --group dev

demo:
	$(PYTHON) example/demo.py

clean:
	rm -rf .venv .tox dist build htmlcov .coverage .coverage.* .hypothesis .mypy_cache \
		.pytest_cache .ruff_cache example/.venv example/.data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/tox:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet 'tox>=4.22'
