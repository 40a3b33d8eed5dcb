# The Python to work with: `make test PYTHON=python3.13`.
PYTHON ?= python3
# Arguments for pytest: `make test PYTEST_ARGS="-k outcome"`.
PYTEST_ARGS ?=
# Arguments for tox: `make test-all TOX_ARGS="-e py313-django61"`.
TOX_ARGS ?=

PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("{}.{}".format(*sys.version_info))')
# The virtual environment is created again for another Python, and updated with pyproject.toml.
INSTALLED = .venv/.installed-$(PYTHON_VERSION)
# $(1) names the data file, so that `make coverage` can combine what several targets measured.
PYTEST = PYTHONDEVMODE=1 COVERAGE_FILE=$(CURDIR)/.coverage.$(1) \
	.venv/bin/python -m coverage run -m pytest -n auto
# pyenv hides the versions that it is not told to use; tox needs all that we support.
TOX = PYENV_VERSION="$${PYENV_VERSION-$$(pyenv versions --bare 2>/dev/null \
	| grep -E '^3\.1[1-4]\.[0-9]+$$' | sort -rV | paste -sd: -)}" .venv/bin/python -m tox

# The tests start hundreds of Python processes, which read the compiled modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help test test-e2e test-all coverage lint types docs bench dev demo clean
.DEFAULT_GOAL := help

help:
	@echo "make test      run the unit and integration tests, the linters and the type checker"
	@echo "make test-e2e  run the tests with a browser, web servers, Prometheus and Alertmanager"
	@echo "make test-all  run all tests with every supported Python and Django, and the wheel"
	@echo "make coverage  report the branch coverage of the last 'make test' and 'make test-e2e'"
	@echo "make lint      run the linters on all files"
	@echo "make types     run the type checker"
	@echo "make docs      build the documentation in build/docs"
	@echo "make bench     run the benchmarks and update docs/performance.md; takes twelve minutes"
	@echo "make dev       install the package and all tools into .venv"
	@echo "make demo      start the example site, a small book shop"
	@echo "make clean     remove everything that these commands created"

# Most tests wait for a server or a timeout most of the time, so there are more processes than CPUs.
test: export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
test: $(INSTALLED)
	rm -f .coverage.test.*
	$(call PYTEST,test) --dist loadgroup -m "not e2e" $(PYTEST_ARGS)
	$(MAKE) --no-print-directory lint types

test-e2e: $(INSTALLED)
	rm -f .coverage.e2e.*
	$(call PYTEST,e2e) -p no:randomly --dist loadfile -m e2e $(PYTEST_ARGS)

test-all: $(INSTALLED)
	$(TOX) run $(TOX_ARGS)

coverage: $(INSTALLED)
	.venv/bin/python -m coverage combine --keep --quiet .coverage.test.* .coverage.e2e.*
	.venv/bin/python -m coverage report

lint: $(INSTALLED)
	.venv/bin/pre-commit run --all-files

types: $(INSTALLED)
	.venv/bin/mypy smoketest tests/typing
	.venv/bin/mypy -p grafana.generator

docs: $(INSTALLED)
	.venv/bin/python -m sphinx --fail-on-warning --quiet docs build/docs

bench: $(INSTALLED)
	.venv/bin/python benchmarks --write

dev: $(INSTALLED)

demo:
	$(PYTHON) example/demo.py

clean:
	rm -rf .venv .tox dist build htmlcov .coverage .coverage.* .hypothesis .mypy_cache \
		.pytest_cache .ruff_cache example/.venv example/.data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pip that comes with an older Python has no dependency groups.
$(INSTALLED): pyproject.toml
	@echo "Installing the package and its tools into .venv"
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv/bin/python -m pip install --quiet --editable . --group dev
	@touch $@
